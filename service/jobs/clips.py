"""One entry of a job to an item of the catalog: known already, read and decoded and encoded, or embedded elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from index.backend import Store
from index.errors import IdentityMismatch, IndexingError
from index.exchange.reconcile import metadata_patch, reconcile
from index.types import Limits, MediaBlob, NewItem, NewSegment
from index.validate import check_metadata
from service.audio.decode import MEDIA_TYPES, Clip, decode
from service.audio.limits import AudioLimits
from service.core.problems import ProblemError
from service.core.threads import in_thread
from service.engine import ClipResult, Engine, EngineFailed, Overloaded, WorkerDown
from service.jobs import parquet
from service.jobs.errors import SourceError
from service.jobs.pieces import Finished, Recent
from service.jobs.reasons import reason_of
from service.jobs.records import Entry, Job
from service.jobs.roots import Roots
from service.telemetry.metrics import Metrics
from service.usecases.item_builder import clip_item
from service.usecases.vectors import unit_vector

_RECENT: Final = 4096
"""Embeddings kept for a file that is there twice under two names; 2 KiB a window."""
_ENCODER_TRIES: Final = 3
_MAX_PAUSE_S: Final = 5.0


@dataclass(frozen=True)
class Decoded:
    """A clip on its way to the encoder."""

    entry: Entry
    clip: Clip
    data: bytes | None
    metadata: dict[str, Any]
    existed: bool

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.clip.duration_s


class ClipReader:
    """Reads, decodes and encodes the clips of one job. Belongs to one event loop."""

    def __init__(
        self,
        engine: Engine,
        catalog: Store,
        metrics: Metrics,
        limits: AudioLimits,
        roots: Roots,
        decoding: ThreadPoolExecutor,
        *,
        keep_media: bool,
    ) -> None:
        """`decoding`: the threads in which files are read and decoded."""
        self._engine, self._catalog, self._metrics = engine, catalog, metrics
        self._limits, self._roots, self._decoding, self._keep_media = limits, roots, decoding, keep_media
        self._recent: Recent[ClipResult] = Recent(_RECENT)

    async def read(self, job: Job, entry: Entry, stored: str | None) -> Finished | Decoded:
        """The decoded clip, or what is known without decoding it. `stored`: the hash of what has its id now.

        Raises SourceError, AudioError, and the index's errors.
        """
        with self._metrics.stage("decode"):
            found = await in_thread(lambda: self._read(job, entry, stored), self._decoding)
        if isinstance(found, Decoded):
            self._metrics.audio_seconds.inc(found.seconds)
        return found

    def _read(self, job: Job, entry: Entry, stored: str | None) -> Finished | Decoded:
        assert entry.id is not None
        data = self._roots.read(self._roots.place(entry.path), most=self._limits.max_bytes)
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 == stored:
            return known(self._catalog, job, entry, sha256, entry.metadata)
        metadata = entry.metadata
        if metadata is None:  # the source knows nothing about the clip; what was said of the one before it stays
            metadata = dict(self._catalog.get_item(job.collection, entry.id).metadata) if stored is not None else {}
        clip = decode(data, self._limits)
        return Decoded(entry, clip, data if self._keep_media else None, metadata, stored is not None)

    async def encode(self, decoded: Decoded) -> Finished:
        """The item to store. A full or restarting encoder is waited for; raises EngineFailed where it fails at this."""
        clip, entry = decoded.clip, decoded.entry
        seen = self._recent.get(clip.sha256)
        if seen is None:
            with self._metrics.stage("encode"):
                result = await self._embed(clip)
            self._recent.put(clip.sha256, result)
        else:
            result = seen
        assert entry.id is not None
        item = clip_item(
            entry.id,
            result.windows,
            result.vectors,
            metadata=decoded.metadata,
            duration_s=clip.duration_s,
            content_sha256=clip.sha256,
            filename=entry.path.rpartition("/")[2],
            media=None if decoded.data is None else MediaBlob(decoded.data, MEDIA_TYPES[clip.format]),
        )
        return Finished(
            entry,
            item=item,
            existed=decoded.existed,
            encoded_s=0.0 if seen else clip.duration_s,
            held_s=clip.duration_s,
        )

    async def _embed(self, clip: Clip) -> ClipResult:
        failures = 0
        while True:
            try:
                return await self._engine.embed_clip(clip.samples, key=clip.sha256, bulk=True, admitted=True)
            except Overloaded as error:
                pause_s = error.retry_after_s
            except WorkerDown:
                pause_s = 1.0
            except EngineFailed:
                failures += 1
                if failures == _ENCODER_TRIES:
                    raise
                pause_s = 0.1
            await asyncio.sleep(min(pause_s, _MAX_PAUSE_S))


def known(catalog: Store, job: Job, entry: Entry, sha256: str, metadata: dict[str, Any] | None) -> Finished:
    """The catalog has this content under this id: nothing is encoded; metadata that differs is written."""
    assert entry.id is not None
    if entry.sha256 == sha256:
        # It was stored by this job, whose process then ended before the job could say so.
        seconds = 0.0 if entry.row is not None else catalog.get_item(job.collection, entry.id).duration_s
        return Finished(entry, outcome="replaced" if entry.existed else "added", encoded_s=seconds)
    if metadata is None:
        return Finished(entry, outcome="unchanged")
    stored = catalog.get_item(job.collection, entry.id).metadata
    decision = reconcile((sha256, stored), sha256, metadata)
    if decision.outcome == "relabelled":
        catalog.patch_metadata(job.collection, entry.id, metadata_patch(stored, metadata))
    return Finished(entry, outcome=decision.outcome)


def embedding_items(
    roots: Roots, catalog: Store, job: Job, page: Sequence[tuple[Entry, str | None]], dim: int, limits: Limits
) -> list[Finished]:
    """A page of a Parquet job's entries, read from their files."""
    found: list[Finished] = []
    for path, group in itertools.groupby(page, key=lambda one: one[0].path):
        entries = {entry.row: (entry, stored) for entry, stored in group}
        try:
            with roots.open(roots.place(path)) as file:
                for row in parquet.rows(file, path, [row for row in entries if row is not None]):
                    entry, stored = entries.pop(row.number)
                    found.append(_embedding(catalog, job, entry, stored, row, dim, limits))
        except SourceError as error:
            found += [Finished(entry, reason=reason_of(error)) for entry, _ in entries.values()]
        else:
            found += _missing(entry for entry, _ in entries.values())
    return found


def _embedding(
    catalog: Store, job: Job, entry: Entry, stored: str | None, row: parquet.Row, dim: int, limits: Limits
) -> Finished:
    try:
        if row.id != entry.id:
            raise SourceError(f"{entry.path}, row {row.number}: the file has changed since it was listed")
        if row.error is not None:
            raise SourceError(f"{entry.path}, row {row.number}: {row.error}")
        if row.identity is None:
            raise SourceError(f"{entry.path}, row {row.number}: no `identity` says which model made the embedding")
        if row.identity != job.identity:
            raise IdentityMismatch(job.identity, row.identity)
        check_metadata(row.metadata or {}, limits)
        segments = [
            NewSegment(start_s, end_s, unit_vector(vector.tolist(), dim, "embedding"))
            for start_s, end_s, vector in row.segments
        ]
        sha256 = row.content_sha256 or _digest(segments, row)
        if sha256 == stored:
            return known(catalog, job, entry, sha256, row.metadata)
        metadata = row.metadata
        assert entry.id is not None
        if metadata is None:
            metadata = dict(catalog.get_item(job.collection, entry.id).metadata) if stored is not None else {}
    except (SourceError, IndexingError, ProblemError) as error:
        return Finished(entry, reason=reason_of(error))
    item = NewItem(entry.id, segments, metadata, row.duration_s, sha256, row.filename)
    return Finished(entry, item=item, existed=stored is not None)


def _digest(segments: Sequence[NewSegment], row: parquet.Row) -> str:
    """Stands in for the hash of a clip that nobody has here: over all that is stored of the row but its metadata."""
    told = json.dumps([row.duration_s, row.filename, [(one.start_s, one.end_s) for one in segments]])
    return hashlib.sha256(b"".join([told.encode(), *(one.vector.tobytes() for one in segments)])).hexdigest()


def _missing(entries: Iterator[Entry]) -> list[Finished]:
    gone = SourceError("the file has fewer rows than when it was listed")
    return [Finished(entry, reason=reason_of(gone)) for entry in entries]
