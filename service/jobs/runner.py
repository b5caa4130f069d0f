"""One job from its listing to its end: read and decode, encode and store overlap, each bounded.

Entries come from the job's store in pages; a few workers read and decode them; the encoder gets them as bulk work, so
that interactive requests go first; one writer puts what is done into the catalog and then strikes it off the job.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from index.backend import Store
from index.errors import (
    CollectionNotFound,
    DimensionMismatch,
    IdentityMismatch,
    InvalidInput,
    StorageFailed,
    StoreClosed,
)
from service.audio.limits import AudioLimits
from service.core.threads import in_thread
from service.engine import Engine
from service.jobs import sources
from service.jobs.clips import ClipReader, Decoded, embedding_items
from service.jobs.errors import JobsBroken
from service.jobs.pieces import Budget, Finished
from service.jobs.reasons import reason_of
from service.jobs.records import Entry, Job, Progress
from service.jobs.roots import Roots
from service.jobs.store import JobStore
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.usecases.open_store import store_limits

T = TypeVar("T")
PAGE: Final = 256
WRITE_AT_ONCE: Final = 64
_LIST_AT_ONCE: Final = 2000
_STORE_TRIES: Final = 5
_FATAL: Final = (CollectionNotFound, StorageFailed, StoreClosed, JobsBroken)
"""What is not one clip's fault."""


@dataclass(frozen=True)
class Tools:
    """The parts of the service that jobs work with."""

    settings: Settings
    engine: Engine
    catalog: Store
    jobs: JobStore
    metrics: Metrics
    audio_limits: AudioLimits
    roots: Roots
    threads: ThreadPoolExecutor
    """For listings, reads of the catalog and writes, apart from those of requests."""


class Run:
    """One claimed job. `on_change` is told after every step that callers may want to see."""

    def __init__(self, job: Job, tools: Tools, on_change: Callable[[], None]) -> None:
        self._job = job
        self._tools = tools
        self._changed = on_change
        self._budget = Budget(tools.settings.ingest_ahead_s)
        # Threads of its own: decoding for requests must not wait behind a job.
        self._decoding = ThreadPoolExecutor(tools.settings.ingest_decode_workers, "clsp-job-decode")
        self._clips = ClipReader(
            tools.engine,
            tools.catalog,
            tools.metrics,
            tools.audio_limits,
            tools.roots,
            self._decoding,
            keep_media=tools.settings.keep_media,
        )
        self._after = -1
        self._todo: asyncio.Queue[tuple[Entry, str | None] | None] = asyncio.Queue(PAGE)
        self._done: asyncio.Queue[Finished | None] = asyncio.Queue()

    async def __call__(self) -> None:
        """Deal with every entry. Cancelled, it ends after the write in progress, which is whole.

        Raises, in an exception group or not, what fails the job as a whole: SourceError, JobsBroken, and the index's
        CollectionNotFound, IdentityMismatch and StorageFailed.
        """
        try:
            await self._deal()
        finally:
            self._decoding.shutdown(wait=False)

    async def _deal(self) -> None:
        info = await self._in_thread(lambda: self._tools.catalog.get_collection(self._job.collection))
        for identity in (self._job.identity, self._tools.engine.identity):
            if identity != info.identity:
                raise IdentityMismatch(info.identity, identity)
        if self._job.total is None:
            await self._list()
        async with asyncio.TaskGroup() as writing:
            writing.create_task(self._write())
            if self._job.kind == "parquet":
                await self._copy_embeddings(info.dim)
            else:
                async with asyncio.TaskGroup() as working:
                    working.create_task(self._feed())
                    for _ in range(self._tools.settings.ingest_decode_workers):
                        working.create_task(self._work(working))
            await self._done.put(None)

    async def _list(self) -> None:
        stop = threading.Event()
        settings = self._tools.settings
        limits = sources.SourceLimits(
            max_entries=settings.ingest_max_entries,
            max_line_bytes=settings.ingest_max_line_bytes,
            items=store_limits(settings),
        )

        def work() -> Job:
            jobs = self._tools.jobs
            jobs.begin_listing(self._job)
            listed = sources.entries(self._tools.roots, self._job, limits)
            while not stop.is_set() and (some := list(itertools.islice(listed, _LIST_AT_ONCE))):
                jobs.list_entries(self._job, some)
            return self._job if stop.is_set() else jobs.end_listing(self._job)

        try:
            self._job = await self._in_thread(work)
        finally:
            stop.set()  # for a thread whose job was cancelled: it ends after the entries in hand
        self._tools.metrics.job_items.labels("refused").inc(self._job.refused)
        self._changed()

    async def _pages(self) -> Sequence[tuple[Entry, str | None]]:
        """The next entries, each with the hash of what the catalog has under its id; none at the end."""
        jobs, catalog, after = self._tools.jobs, self._tools.catalog, self._after

        def read() -> list[tuple[Entry, str | None]]:
            page = jobs.waiting(self._job, after=after, limit=PAGE)
            ids = [entry.id for entry in page if entry.id is not None]
            stored = catalog.content_hashes(self._job.collection, ids) if ids else {}
            return [(entry, stored.get(entry.id or "")) for entry in page]

        found = await self._in_thread(read)
        if found:
            self._after = found[-1][0].seq
        return found

    async def _feed(self) -> None:
        while page := await self._pages():
            for one in page:
                await self._todo.put(one)
        for _ in range(self._tools.settings.ingest_decode_workers):
            await self._todo.put(None)

    async def _work(self, group: asyncio.TaskGroup) -> None:
        """Read and decode, one clip after the other; what has to be encoded goes on by itself."""
        while (one := await self._todo.get()) is not None:
            entry, stored = one
            try:
                clip = await self._clips.read(self._job, entry, stored)
            except _FATAL:
                raise
            except Exception as error:
                await self._done.put(Finished(entry, reason=reason_of(error)))
                continue
            if isinstance(clip, Finished):
                await self._done.put(clip)
                continue
            await self._budget.acquire(clip.seconds)
            group.create_task(self._encode(clip))
            del clip, one  # the next one is waited for without holding on to this one's audio

    async def _encode(self, clip: Decoded) -> None:
        try:
            finished = await self._clips.encode(clip)
        except Exception as error:
            await self._budget.release(clip.seconds)
            await self._done.put(Finished(clip.entry, reason=reason_of(error)))
        else:
            await self._done.put(finished)

    async def _copy_embeddings(self, dim: int) -> None:
        while page := await self._pages():
            tools, limits = self._tools, store_limits(self._tools.settings)
            copy = partial(embedding_items, tools.roots, tools.catalog, self._job, page, dim, limits)
            for finished in await self._in_thread(copy):
                await self._done.put(finished)
            await self._drained()

    async def _drained(self) -> None:
        """Wait until the writer has kept up, so that rows do not pile up in memory."""
        while self._done.qsize() > PAGE:
            await asyncio.sleep(0.01)

    async def _write(self) -> None:
        """Write down whatever is done, as much as is there at a time."""
        while (first := await self._done.get()) is not None:
            batch = [first]
            last = False
            while len(batch) < WRITE_AT_ONCE and not self._done.empty():
                one = self._done.get_nowait()
                if one is None:
                    last = True
                    break
                batch.append(one)
            writing = asyncio.ensure_future(self._write_batch(batch))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await asyncio.wait([writing])  # what has begun is finished and acknowledged, then the job stops
                raise
            for one in batch:
                if one.held_s:
                    await self._budget.release(one.held_s)
            if last:
                return

    async def _write_batch(self, batch: Sequence[Finished]) -> None:
        wait_s = 1.0
        for left in reversed(range(_STORE_TRIES)):
            try:
                progress = await self._in_thread(lambda: self._commit(batch))
                break
            except StorageFailed:
                if not left:
                    raise
                await asyncio.sleep(wait_s)
                wait_s *= 2
        items = self._tools.metrics.job_items
        for outcome in ("added", "replaced", "relabelled", "unchanged"):
            items.labels(outcome).inc(getattr(progress, outcome))
        items.labels("refused").inc(len(progress.refused))
        self._changed()

    def _commit(self, batch: Sequence[Finished]) -> Progress:
        """The catalog first, then the job: a kill in between leaves what was intended to tell that it was done."""
        jobs, progress = self._tools.jobs, Progress()
        wanted = [one for one in batch if one.item is not None]
        if wanted:
            intents = [(one.entry.seq, one.item.content_sha256, one.existed) for one in wanted if one.item is not None]
            jobs.intend(self._job, intents)
            with self._tools.metrics.stage("write"):
                self._upsert(wanted, progress)
        for one in batch:
            if one.reason is not None:
                progress.refused.append((one.entry.seq, one.reason))
            elif one.item is None:
                progress.finish(one.entry.seq, one.outcome)
                progress.encoded += bool(one.encoded_s)
                progress.audio_s += one.encoded_s
        self._job = jobs.advance(self._job, progress)
        return progress

    def _upsert(self, wanted: Sequence[Finished], progress: Progress) -> None:
        items = [one.item for one in wanted if one.item is not None]
        try:
            created = self._tools.catalog.upsert(self._job.collection, items, identity=self._job.identity)
        except (InvalidInput, DimensionMismatch) as error:
            if len(wanted) == 1:
                progress.refused.append((wanted[0].entry.seq, reason_of(error)))
                return
            for one in wanted:
                self._upsert([one], progress)
            return
        for one, new in zip(wanted, created, strict=True):
            progress.finish(one.entry.seq, "added" if new else "replaced")
            progress.encoded += bool(one.encoded_s)
            progress.audio_s += one.encoded_s

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await in_thread(call, self._tools.threads)
