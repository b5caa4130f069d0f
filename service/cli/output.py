"""How `clsp` prints: rich tables for people, plain JSON for machines, errors on stderr."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.cli.common import explain

console = Console()
error_console = Console(stderr=True)


def replace_unprintable() -> None:
    """Let a terminal that is not UTF-8 show `?` for what it lacks: a word not printed is no failed command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace" if _is_utf8(stream.encoding) else "replace")


def _is_utf8(encoding: str | None) -> bool:
    return (encoding or "").lower().replace("_", "-") in ("utf-8", "utf8")


def print_json(value: Any) -> None:
    """Print one JSON document to stdout, unstyled, so that it can be piped: in ASCII where the output is not UTF-8."""
    text = json.dumps(value, ensure_ascii=not _is_utf8(sys.stdout.encoding), indent=2)
    sys.stdout.write(printable(text) + "\n")


def printable(text: str) -> str:
    """The text with what no output can hold, such as bytes of a file's name that are not UTF-8, as `\\udcff`.

    In JSON that is an escape, so that a reader gets the very name back.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def print_error(error: Exception) -> None:
    """Print an error to stderr: its first line stands out, the rest explains. An output that takes nothing is given up,
    so that the exit status is the error's whatever became of its words.
    """
    _give_up_broken_output()
    first, _, rest = printable(explain(error)).partition("\n")
    with suppress(OSError, SystemExit):  # rich ends the process where nobody reads on
        error_console.print(f"[bold red]{escape(first)}[/]", highlight=False, soft_wrap=True)
        if rest:
            error_console.print(escape(rest), highlight=False, soft_wrap=True)
    _give_up_broken_output()


def _give_up_broken_output() -> None:
    """What could not be written is tried again when Python ends, which would change the exit status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table whose numbers are right-aligned; a column is numeric when its name ends in a unit or is a known one."""
    result = Table(title=escape(title), title_justify="left", header_style="bold", expand=False)
    for name in columns:
        result.add_column(name, justify="right" if name in _NUMERIC else "left", overflow="fold")
    for row in rows:
        result.add_row(*(escape(_cell(value)) for value in row))
    return result


_NUMERIC = {"#", "score", "match", "best s", "length s", "cosine", "percentile", "probability", "items", "segments"}
_HIDDEN = {"text", "licence", "voice"}
"""Long or legal fields crowd a terminal; `--json` has them."""


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def describe(metadata: Mapping[str, Any]) -> str:
    """A caption where there is one, since it says most; otherwise the metadata as `key=value` words."""
    if isinstance(metadata.get("caption"), str):
        return str(metadata["caption"])
    return " ".join(
        f"{key}={'+'.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in metadata.items()
        if key not in _HIDDEN
    )


def hits_table(title: str, answer: Mapping[str, Any]) -> Table:
    """The answer of a search, best hit first."""
    rows = [
        (
            rank,
            hit["id"],
            float(hit["score"]),
            None if hit["match_probability"] is None else float(hit["match_probability"]),
            f"{hit['segment']['start_s']:.1f}-{hit['segment']['end_s']:.1f}",
            describe(hit["metadata"]),
        )
        for rank, hit in enumerate(answer["hits"], 1)
    ]
    return table(title, ("#", "item", "score", "match", "best s", "about"), rows)


def labels_table(title: str, names: Sequence[str], answer: Mapping[str, Any]) -> Table:
    """The answer of a classification: one row a clip and label, likeliest label first."""
    rows: list[tuple[object, ...]] = []
    for name, result in zip(names, answer["results"], strict=True):
        ranked = sorted(result["probabilities"].items(), key=lambda pair: -pair[1])
        for place, (label, probability) in enumerate(ranked):
            rows.append(("" if place else name, label, float(probability), float(result["cosines"][label])))
    return table(title, ("clip", "label", "probability", "cosine"), rows)


def scores_table(title: str, pairs: Sequence[tuple[str, str]], answer: Mapping[str, Any]) -> Table:
    """The answer of a scoring: one row a (clip, caption) pair."""
    rows = [
        (name, caption, float(result["cosine"]), float(result["match_probability"]), _percentile(result))
        for (name, caption), result in zip(pairs, answer["results"], strict=True)
    ]
    return table(title, ("clip", "caption", "cosine", "match", "percentile"), rows)


def _percentile(result: Mapping[str, Any]) -> str:
    """A model without reference captions has no percentiles."""
    return "" if result["percentile"] is None else f"{result['percentile']:.1f}"
