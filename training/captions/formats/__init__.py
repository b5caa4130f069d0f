"""Manifests of speech with captions: JSONL, Lhotse cuts and Parquet, one row shape, one pair of verbs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from training.captions.formats import cuts, jsonl, parquet
from training.captions.formats.rows import FormatError, Row

__all__ = ["FormatError", "Row", "kind_of", "read_rows", "write_rows"]

Reader = Callable[[Path, Path, int], Iterator[dict[str, Any]]]
Writer = Callable[[Path, Iterable[Row]], int]


def kind_of(path: Path) -> str:
    """jsonl, cuts or parquet, by name: `x.jsonl[.gz]`, `x_cuts.jsonl[.gz]`, `x.parquet`. Raises FormatError.

    An existing .jsonl file is looked into: Lhotse cuts are known by their recording.
    """
    name = path.name.lower()
    if name.endswith(".parquet"):
        return "parquet"
    if not name.endswith((".jsonl", ".jsonl.gz", ".json.gz")):
        raise FormatError(f"{path}: a manifest is .jsonl, .jsonl.gz or .parquet")
    if path.exists():
        return "cuts" if cuts.looks_like(jsonl.first_object(path)) else "jsonl"
    return "cuts" if "cuts" in name else "jsonl"


def read_rows(path: Path, *, audio_root: Path | None = None, skip: int = 0) -> Iterator[Row]:
    """Rows of a manifest of any format, in order and one at a time, after the first `skip`.

    Every row has `id` and an absolute `path`; `start_s` only where it is a stretch of its file; the rest of the line
    as it stood. Relative paths start at `audio_root`, or beside the manifest. Raises FormatError naming the line.
    """
    readers: dict[str, Reader] = {"jsonl": jsonl.read, "cuts": cuts.read, "parquet": parquet.read}
    return readers[kind_of(path)](path, (audio_root or path.parent).absolute(), skip)


def write_rows(path: Path, rows: Iterable[Row], *, kind: str | None = None) -> int:
    """Writes rows in the format that the name says (or `kind`): whole or not at all. Returns how many."""
    writers: dict[str, Writer] = {"jsonl": jsonl.write, "cuts": cuts.write, "parquet": parquet.write}
    path.parent.mkdir(parents=True, exist_ok=True)
    return writers[kind or ("parquet" if path.suffix == ".parquet" else "cuts" if "cuts" in path.name else "jsonl")](
        path, rows
    )
