"""`clsp` commands that ask the model about clips and texts and store nothing: classify, score, embed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from service.cli_client import DEFAULT_URL, Client, CliError, JsonOption, KeyOption, UrlOption, data_uri
from service.cli_output import console, error_console, labels_table, print_json, scores_table

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
    options: dict[str, Any] = {"preset": preset} if preset else {"labels": parse_labels(label or [])}
    answer: dict[str, Any] = {"results": []}
    with Client(url, api_key) as client:
        for chunk in _chunks(clips):
            body = {"inputs": [data_uri(path) for path in chunk], **options}
            answer = _joined(answer, client.call("POST", "/v1/classify", json=body))
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


def score(
    clip: Annotated[Path | None, typer.Argument(help="An audio file.")] = None,
    caption: Annotated[str | None, typer.Argument(help="How it should sound.")] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="A JSONL file instead: `file`, relative to it, and `caption` a line.")
    ] = None,
    curve: Annotated[bool, typer.Option(help="Also the cosine over time (printed with --json).")] = False,
    min_match: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit with status 3 when a match probability is below this.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell how well clips fit their captions: cosine, match probability, percentile."""
    listed = _read_pairs(clip, caption, pairs)
    answer: dict[str, Any] = {"results": []}
    with Client(url, api_key) as client:
        for chunk in _chunks(listed):
            rows = [{"audio": data_uri(path), "caption": text} for path, text in chunk]
            answer = _joined(answer, client.call("POST", "/v1/score", json={"pairs": rows, "curve": curve}))
    if as_json:
        print_json(answer)
    else:
        console.print(scores_table("Scores", [(path.name, text) for path, text in listed], answer))
        console.print(f"identity {answer['identity']}", style="dim", highlight=False)
    low = [result for result in answer["results"] if min_match and result["match_probability"] < min_match]
    if low:
        error_console.print(f"[red]{len(low)} of {len(listed)} below {min_match}[/]", highlight=False)
        raise typer.Exit(3)


def _read_pairs(clip: Path | None, caption: str | None, pairs: Path | None) -> list[tuple[Path, str]]:
    if pairs is None:
        if clip is None or caption is None:
            raise CliError('Give a clip and a caption (clsp score a.wav "an old man whispers"), or --pairs FILE')
        return [(clip, caption)]
    if clip is not None:
        raise CliError("Give either a clip and a caption, or --pairs, not both")
    try:
        rows = [json.loads(line) for line in pairs.read_text("utf-8").splitlines() if line.strip()]
        listed = [(pairs.parent / row["file"], str(row["caption"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CliError(f"{pairs}: every line needs `file` and `caption` ({error!r})") from error
    if not listed:
        raise CliError(f"{pairs} holds no pairs")
    return listed


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
    with Client(url, api_key) as client:
        for chunk in _chunks(inputs):
            encoded = [data_uri(Path(name)) for name in chunk] if audio else chunk
            body = {"input": encoded, "modality": "audio" if audio else "text"}
            part = client.call("POST", "/v1/embeddings", json=body)
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


def _joined(so_far: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """Append an answer's results to those of the chunks before it."""
    return {**answer, "results": [*so_far["results"], *answer["results"]]}
