"""Manifests of speech with captions: JSONL, Lhotse cuts and Parquet, one row shape, one pair of verbs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from training.captions.formats import cuts, jsonl, parquet
from training.captions.formats.rows import FormatError, Row

__all__ = ["FormatError", "Row", "format_named", "kind_of", "read_rows", "write_rows"]

Reader = Callable[[Path, Path, int], Iterator[dict[str, Any]]]
Writer = Callable[[Path, Iterable[Row]], int]


def format_named(path: Path) -> str:
    """jsonl, cuts or parquet, as a file to be written is named: `x.jsonl[.gz]`, `x_cuts.jsonl[.gz]`, `x.parquet`.

    Raises FormatError for any other name.
    """
    name = path.name.lower()
    if name.endswith(".parquet"):
        return "parquet"
    if not name.endswith((".jsonl", ".jsonl.gz")):
        raise FormatError(f"{path}: a manifest is .jsonl, .jsonl.gz or .parquet")
    return "cuts" if "cuts" in name else "jsonl"


def kind_of(path: Path) -> str:
    """The format of a file that is there; JSON lines are looked into. Raises FormatError."""
    named = format_named(path)
    if named == "parquet":
        return named
    return "cuts" if cuts.looks_like(jsonl.first_object(path)) else "jsonl"


def read_rows(path: Path, *, audio_root: Path | None = None, skip: int = 0) -> Iterator[Row]:
    """Rows of a manifest of any format, in order and one at a time, after the first `skip`.

    Every row has `id` and an absolute `path`; `start_s` only where it is a stretch of its file; the rest of the line
    as it stood. Relative paths start at `audio_root`, or beside the manifest. Raises FormatError naming the line.
    """
    readers: dict[str, Reader] = {"jsonl": jsonl.read, "cuts": cuts.read, "parquet": parquet.read}
    return readers[kind_of(path)](path, (audio_root or path.parent).absolute(), skip)


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Writes rows in the format that the name says: whole or not at all. Returns how many. Raises FormatError."""
    writers: dict[str, Writer] = {"jsonl": jsonl.write, "cuts": cuts.write, "parquet": parquet.write}
    path.parent.mkdir(parents=True, exist_ok=True)
    return writers[format_named(path)](path, rows)
