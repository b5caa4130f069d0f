"""`clsp` commands that ask the model about clips and texts and store nothing: classify, embed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from service.cli.common import DEFAULT_URL, CliError, JsonOption, KeyOption, UrlOption, clip_uri, connect
from service.cli.output import console, error_console, labels_table, print_json

_T = TypeVar("_T")
CHUNK = 16
"""Clips sent in one request; more are sent one chunk after another."""


def classify(
    clips: Annotated[list[Path], typer.Argument(help="Audio files.")],
    preset: Annotated[
        str | None, typer.Option(help="A label set of the model: emotion, gender, age (see GET /v1/models).")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help='A label of your own: "whispering", or "calm=a calm, slow voice".')
    ] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose a label for each clip, from a preset or from labels of your own."""
    if (preset is None) == (not label):
        raise CliError("Give either --preset NAME or --label at least twice")
    labels = parse_labels(label) if label else None
    answer: dict[str, Any] = {"results": []}
    with connect(url, api_key) as client:
        for chunk in _chunks(clips):
            part = client.classify([clip_uri(path) for path in chunk], preset=preset, labels=labels)
            answer = {**part, "results": [*answer["results"], *part["results"]]}
    if as_json:
        print_json(answer)
        return
    console.print(labels_table(preset or "your labels", [path.name for path in clips], answer))


def parse_labels(labels: list[str]) -> dict[str, list[str]]:
    """`name=prompt` or plain `prompt` (its own name); a name given again adds a prompt to it."""
    prompts: dict[str, list[str]] = {}
    for label in labels:
        name, _, prompt = label.partition("=")
        prompts.setdefault(name.strip(), []).append((prompt or name).strip())
    return prompts


def embed(
    inputs: Annotated[list[str], typer.Argument(help="Texts; with --audio, audio files.")],
    audio: Annotated[bool, typer.Option("--audio", help="The inputs are audio files.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write a float32 [inputs, dim] .npy file instead of JSON.")] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
) -> None:
    """Turn texts or clips into unit vectors, as JSON or a .npy file."""
    if out is not None and out.suffix != ".npy":
        raise CliError(f"--out {out}: the only format is .npy")
    answer: dict[str, Any] = {"data": []}
    with connect(url, api_key) as client:
        for chunk in _chunks(inputs):
            clips = [clip_uri(Path(name)) for name in chunk] if audio else []
            part = client.embed_clips(clips) if audio else client.embed_texts(chunk)
            done = len(answer["data"])
            moved = [{**row, "index": row["index"] + done} for row in part["data"]]
            usage = {name: count + answer.get("usage", {}).get(name, 0) for name, count in part["usage"].items()}
            cut = [*answer.get("truncated", []), *(place + done for place in part["truncated"])]
            answer = {**part, "data": [*answer["data"], *moved], "usage": usage, "truncated": cut}
    if answer["truncated"]:
        error_console.print(f"[yellow]Cut at the model's length: inputs {answer['truncated']}[/]", highlight=False)
    if out is None:
        print_json(answer)
        return
    import numpy as np  # the other commands start faster without it

    np.save(out, np.array([row["embedding"] for row in answer["data"]], np.float32), allow_pickle=False)
    error_console.print(f"{out}: identity {answer['identity']}", highlight=False)


def _chunks(values: list[_T]) -> list[list[_T]]:
    return [values[start : start + CHUNK] for start in range(0, len(values), CHUNK)]
