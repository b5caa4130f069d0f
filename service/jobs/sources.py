"""What a job's source holds, entry by entry: a folder, a JSONL manifest, or Parquet files of embeddings.

Listing reads names and rows, never audio. What cannot be an entry becomes a refused one, so that it is on the report.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from clsp_client import AUDIO_SUFFIXES, OTHER_AUDIO_SUFFIXES
from index.errors import IdentityMismatch, InvalidInput
from index.types import Limits
from index.validate import check_item_id, check_metadata
from service.core.manifest import id_of, parse_row
from service.jobs import parquet
from service.jobs.errors import SourceError
from service.jobs.records import Entry, Job, Kind, reason
from service.jobs.roots import Place, Roots


@dataclass(frozen=True, kw_only=True)
class SourceLimits:
    """Bounds on what is listed: entries of a job, bytes of a manifest's line, bytes of an item's metadata as JSON."""

    max_entries: int
    max_line_bytes: int
    items: Limits


def check_source(roots: Roots, kind: Kind, place: Place, *, identity: str) -> None:
    """Look whether a job could begin. Raises SourceError, and IdentityMismatch for embeddings of another model."""
    folder = roots.is_folder(place)
    if kind == "folder" and not folder:
        raise SourceError(f"{place} is a file, not a folder; kind may be manifest or parquet", field="kind")
    if kind == "manifest" and folder:
        raise SourceError(f"{place} is a folder, not a manifest", field="kind")
    if kind == "parquet":
        for shard in _shards(roots, place):
            with roots.open(shard) as file:
                found = parquet.stated_identity(file, str(shard))
            if found is not None and found != identity:
                raise IdentityMismatch(identity, found)
            break  # the others are checked row by row, by the job


def entries(roots: Roots, job: Job, limits: SourceLimits) -> Iterator[Entry]:
    """All entries of a job's source, by their place in it. Raises SourceError where the source cannot be read."""
    place = roots.place(job.path)
    listed = {"folder": _folder, "manifest": _manifest, "parquet": _parquet}[job.kind]
    for count, entry in enumerate(listed(roots, place, limits), 1):
        if count > limits.max_entries:
            raise SourceError(f"{place} has more than {limits.max_entries} entries; split it")
        yield _checked(entry, limits)


def _folder(roots: Roots, place: Place, limits: SourceLimits) -> Iterator[Entry]:
    seq = 0
    for seq, found in enumerate(roots.walk(place, _looks_like_audio), 1):
        why = None if found.refused is None else reason("invalid-source", found.refused)
        yield Entry(seq, str(found.place), id_of(found.place.parts[len(place.parts) :]), reason=why)
    if not seq:
        known = ", ".join(sorted(AUDIO_SUFFIXES))
        raise SourceError(f"{place} holds no audio ({known}); a folder of embeddings is of the kind parquet")


def _looks_like_audio(name: str) -> bool:
    return PurePosixPath(name.lower()).suffix in AUDIO_SUFFIXES | OTHER_AUDIO_SUFFIXES


def _manifest(roots: Roots, place: Place, limits: SourceLimits) -> Iterator[Entry]:
    folder = Place(place.root, place.parts[:-1])
    with roots.open(place) as file:
        seq = 0
        while line := file.readline(limits.max_line_bytes + 1):
            seq += 1
            if seq == 1:
                line = line.removeprefix(BOM_UTF8)
            if len(line) > limits.max_line_bytes:
                while line and not line.endswith(b"\n"):
                    line = file.readline(limits.max_line_bytes)
                detail = f"line {seq}: longer than {limits.max_line_bytes} bytes"
                yield Entry(seq, str(place), None, reason=reason("invalid-source", detail, limit=limits.max_line_bytes))
            elif line.strip():
                yield _manifest_entry(seq, line, place, folder)


def _manifest_entry(seq: int, line: bytes, manifest: Place, folder: Place) -> Entry:
    try:
        row = parse_row(line.decode())
        place = folder.below(row.file)
    except (ValueError, RecursionError, SourceError) as error:
        detail = f"line {seq}: {error or 'nested too deep'}"
        return Entry(seq, str(manifest), None, reason=reason("invalid-source", detail))
    return Entry(
        seq, str(place), row.id or id_of(PurePosixPath(row.file).parts), row.metadata if row.says_more else None
    )


def _parquet(roots: Roots, place: Place, limits: SourceLimits) -> Iterator[Entry]:
    seq = 0
    for shard in _shards(roots, place):
        with roots.open(shard) as file:
            for row, item_id in enumerate(parquet.ids(file, str(shard))):
                seq += 1
                why = None if isinstance(item_id, str) else reason("invalid-source", f"row {row}: it has no `id`")
                yield Entry(seq, str(shard), item_id if why is None else None, row=row, reason=why)


def _shards(roots: Roots, place: Place) -> Iterator[Place]:
    if not roots.is_folder(place):
        yield place
        return
    empty = True
    for found in roots.walk(place, lambda name: name.endswith(".parquet")):
        if found.refused is not None:
            raise SourceError(f"{found.place}: {found.refused}")
        empty = False
        yield found.place
    if empty:
        raise SourceError(f"{place} holds no .parquet file")


def _checked(entry: Entry, limits: SourceLimits) -> Entry:
    """The entry, refused where its id or metadata could not be stored."""
    if entry.reason is not None or entry.id is None:
        # Not by its id: one that is refused must not keep another from it.
        return Entry(entry.seq, entry.path, None, row=entry.row, reason=entry.reason)
    try:
        check_item_id(entry.id)
        check_metadata(entry.metadata or {}, limits.items)
    except InvalidInput as error:
        why = reason("invalid-request", str(error), field=error.field, limit=error.limit)
        return Entry(entry.seq, entry.path, None, row=entry.row, reason=why)
    return entry
