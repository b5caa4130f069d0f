"""One row of a JSONL manifest: where a clip is, its id and what is known about it; for `clsp ingest` and for jobs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

_NOT_METADATA = frozenset({"file", "path", "id", "metadata", "duration_s"})


_CLUTTER = frozenset(
    {"__macosx", ".ds_store", ".appledouble", ".spotlight-v100", ".trashes", ".fseventsd"}
    | {"thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "@eadir"}
)
"""What Macs, Windows and network storage leave in folders, in lower case."""


def is_clutter(name: str) -> bool:
    """Whether a file's or a folder's name is of what an operating system leaves beside people's files.

    `._take.wav` is the AppleDouble companion (RFC 1740) of `take.wav`: it ends like audio and holds none.
    """
    return name.startswith("._") or name.lower() in _CLUTTER


@dataclass(frozen=True)
class ManifestRow:
    """`file` as written, `id` where one is given, and `metadata`; `says_more` where the row has any of it."""

    file: str
    id: str | None
    metadata: dict[str, Any]
    says_more: bool


def parse_row(line: str) -> ManifestRow:
    """A row has `file` (or `path`), and optionally `id` and `metadata`; its other fields become metadata too, unless
    null or nested. Raises ValueError, which says what is wrong."""
    try:
        row = json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(row, dict):
        raise ValueError("it is not an object")
    name = row.get("file") or row.get("path")
    if not isinstance(name, str):
        raise ValueError("it needs `file`")
    given = row.get("metadata")
    if given is not None and not isinstance(given, dict):
        raise ValueError("`metadata` is not an object")
    extra = {key: value for key, value in row.items() if key not in _NOT_METADATA and _storable(value)}
    metadata = {**extra, **(given or {})}
    item_id = row.get("id")
    return ManifestRow(
        name,
        None if item_id in (None, "") else normalize("NFC", str(item_id)),
        metadata,
        bool(extra) or given is not None,
    )


def id_of(parts: Sequence[str]) -> str:
    """The id of a clip that is known by its path alone: `a/b.wav` is `a__b.wav`."""
    return normalize("NFC", "__".join(part for part in parts if part not in ("/", "..", ".")))


def _storable(value: object) -> bool:
    scalars = value if isinstance(value, list) else [value]
    return value is not None and all(isinstance(item, str | int | float | bool) for item in scalars)
