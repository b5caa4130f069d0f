"""The clips of a folder or a manifest on this machine, and what is known of each: for uploads and for a corpus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clsp_client import AUDIO_SUFFIXES, OTHER_AUDIO_SUFFIXES
from service.core.manifest import id_of, is_clutter, parse_row


class ClipSourceError(ValueError):
    """A folder or manifest cannot be read; the message names it, and the line."""


@dataclass(frozen=True)
class Source:
    """One clip to ingest: where its bytes are and what is known about it; None where its source says nothing.

    `refused` says why it can't be ingested, where its name alone tells.
    """

    path: Path
    id: str
    metadata: dict[str, Any] | None
    refused: str | None = None


def read_source(source: Path) -> list[Source]:
    """List the clips of a folder (all audio files below it) or of a JSONL manifest.

    A manifest row has `file` (or `path`), relative to the manifest, and optionally `id` and `metadata`; its other
    fields become metadata too, unless null. Audio of formats that the service does not read is listed too, so that it
    is refused by name rather than passed over. Raises ClipSourceError for what cannot be read, naming the line,
    and for a manifest that gives one id to two files.
    """
    if source.is_dir():
        return list(_read_folder(source))
    if not source.is_file():
        raise ClipSourceError(f"{source}: no such file or folder")
    clips = list(_read_manifest(source))
    seen: dict[str, Path] = {}
    for clip in clips:
        if clip.id in seen:
            raise ClipSourceError(f"{source}: the id {clip.id!r} appears twice, for {seen[clip.id]} and {clip.path}")
        seen[clip.id] = clip.path
    return clips


def _read_folder(folder: Path) -> Iterator[Source]:
    wanted = AUDIO_SUFFIXES | OTHER_AUDIO_SUFFIXES
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in wanted
        and not any(is_clutter(part) for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    if not found:
        raise ClipSourceError(f"{folder} holds no audio ({', '.join(sorted(AUDIO_SUFFIXES))})")
    holders: dict[str, Path] = {}
    for path in found:
        id = id_of(path.relative_to(folder).parts)
        holder = holders.setdefault(id, path)
        refused = None if holder == path else f"the id {id!r} is taken by another clip of the source: {holder}"
        yield Source(path, id, None, refused if is_text(id) else "its name is not valid UTF-8")


def is_text(name: str) -> bool:
    """Whether a name is Unicode: a file's name may be any bytes, and Python keeps those that aren't as surrogates."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _read_manifest(manifest: Path) -> Iterator[Source]:
    try:
        # Only a line feed ends a row: texts may hold what else Python takes for an end.
        lines = manifest.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ClipSourceError(f"{manifest}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = parse_row(line)
        except ValueError as error:
            raise ClipSourceError(
                f"{manifest}, line {number}: not a manifest row ({error}); it needs `file`"
            ) from error
        known = row.metadata if row.says_more else None
        yield Source(manifest.parent / row.file, row.id or id_of(Path(row.file).parts), known)
