"""The row that all formats share, the names that other manifests give its fields, and writing a file whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from training.captions.formats.checks import checked

Row = dict[str, Any]

# Ours -> what NeMo, Hugging Face and others call it.
NAMES: Mapping[str, tuple[str, ...]] = {
    "path": ("audio", "audio_filepath", "audio_path", "relative_audio_path", "file", "file_name", "wav"),
    "duration_s": ("duration", "speech_duration"),
    "start_s": ("offset",),
    "id": ("uid", "utt_id", "utterance_id", "audio_id"),
    "speaker": ("speaker_id", "speakerid", "spk_id"),
    "text": ("transcription", "transcript", "sentence"),
}


class FormatError(ValueError):
    """A manifest cannot be read or written; the message names the file and the line."""


def normalise(line: Mapping[str, Any], root: Path) -> Row:
    """A line of a manifest as a row: our names, an absolute path, an id.

    Raises ValueError for one without audio, or with a field that is not what it should be.
    """
    row = dict(line)
    for name, others in NAMES.items():
        for other in others:
            if row.get(name) is None and row.get(other) is not None:
                row[name] = row.pop(other)
    path = row.get("path")
    if isinstance(path, Mapping):  # Hugging Face's audio column
        path = path.get("path")
    if not path:
        raise ValueError(f"it names no audio file (one of path, {', '.join(NAMES['path'])})")
    checked(row)
    row["path"] = os.path.normpath(root / str(path))
    if not row.get("id"):
        told = Path(str(path)).with_suffix("").as_posix().strip("./").replace("/", "-")
        row["id"] = told if not row.get("start_s") else f"{told}-{row['start_s']:g}"
    row["id"] = str(row["id"])
    if row.get("start_s") is None:
        row.pop("start_s", None)
    return row


def audio_channel(row: Mapping[str, Any]) -> int | None:
    """Which channel of its file a row is; None for all of them.

    What a build of `training.corpus.build_data` calls `channel` is the room and codec laid over a clip: not this.
    """
    told = row.get("channel")
    return told if isinstance(told, int) else None


def portable(row: Mapping[str, Any], folder: Path) -> Row:
    """A row for a file in `folder`: its audio by a relative path, so that both can move together; no cut."""
    told = {k: v for k, v in row.items() if k != "cut"}
    told["path"] = _relative(row["path"], folder)
    return told


@lru_cache(maxsize=1024)
def _relative(path: str, folder: Path) -> str:
    # Rows of one long recording follow each other.
    return Path(os.path.relpath(path, folder.absolute())).as_posix()


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A name to write to; what is there replaces `path` at the end, durably, or never."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
