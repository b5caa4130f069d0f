"""All jobs of one service: whose turn it is, what is told to those who watch, and what happens at start and stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar, get_args

from index.backend import Store
from service.audio.limits import AudioLimits
from service.core.threads import in_thread
from service.engine import Engine
from service.jobs import sources
from service.jobs.errors import JobsBroken, WrongState
from service.jobs.reasons import problem_of, reason_of
from service.jobs.records import Entry, Job, Kind, State
from service.jobs.roots import Roots
from service.jobs.runner import Run, Tools
from service.jobs.store import JobStore
from service.settings import Settings
from service.telemetry.metrics import Metrics

T = TypeVar("T")
logger = logging.getLogger("clsp.jobs")
MAX_STALLS: Final = 5
"""Starts in a row without an entry dealt with, after which a job that takes its process along is let lie."""
_RETRY_S: Final = 5.0
_THREADS: Final = 4


@dataclass
class _Running:
    """A job under way. `cancelled`: a caller asked for it; `ending`: all that is left is to write down its end."""

    task: asyncio.Task[None] | None = None
    cancelled: bool = False
    ending: bool = False


class Jobs:
    """Made, started and stopped with the app; belongs to its event loop.

    Calls raise JobsBroken when the disk refuses, and UnknownJob for an id that is none.
    """

    def __init__(
        self, settings: Settings, engine: Engine, catalog: Store, metrics: Metrics, audio_limits: AudioLimits
    ) -> None:
        """Open the jobs of the data folder. Blocking. Raises StoreLocked and JobsBroken."""
        self._settings = settings
        self._metrics = metrics
        self._jobs = JobStore(settings.data_dir / "jobs")
        self._threads = ThreadPoolExecutor(_THREADS, "clsp-jobs")
        self.roots = Roots({root.name: root.path for root in settings.ingest_roots})
        own = ThreadPoolExecutor(_THREADS * settings.ingest_jobs, "clsp-job")
        self._tools = Tools(settings, engine, catalog, self._jobs, metrics, audio_limits, self.roots, own)
        self._running: dict[str, _Running] = {}
        self._calls: set[asyncio.Task[Job]] = set()
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._pulse = asyncio.Event()
        self._scheduler: asyncio.Task[None] | None = None
        self.closing = asyncio.Event()

    async def start(self) -> None:
        """Go on with what the last process left."""
        await self._in_thread(self._jobs.requeue_interrupted)
        await self._count()
        self._scheduler = asyncio.create_task(self._schedule())

    async def stop(self) -> None:
        """End the watchers and put running jobs back; the writes in progress are finished first."""
        self.close_streams()
        tasks = [one.task for one in self._running.values() if one.task]
        if self._scheduler is not None:
            tasks.append(self._scheduler)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._calls, return_exceptions=True)
        await asyncio.to_thread(self._jobs.close)

    def close_streams(self) -> None:
        """Let every watcher go: a server that stops waits for its connections."""
        self.closing.set()
        self._tell()

    async def create(self, collection: str, identity: str, kind: Kind, path: str) -> Job:
        """A job of this source, the one there is or a new one; durable when this returns.

        Raises SourceError, IdentityMismatch and TooManyJobs.
        """

        def work() -> Job:
            place = self.roots.place(path)
            sources.check_source(self.roots, kind, place, identity=identity)
            most = self._settings.ingest_jobs_waiting
            return self._jobs.create(
                collection=collection, identity=identity, kind=kind, path=str(place), most_waiting=most
            )

        async def create() -> Job:
            job = await self._in_thread(work)
            await self._woken()
            return job

        return await self._whole(create())

    async def get(self, job_id: str) -> Job:
        """One job as it is now."""
        return await self._in_thread(lambda: self._jobs.get(job_id))

    async def page(self, *, before: int | None, limit: int, collection: str | None, state: State | None) -> list[Job]:
        """Jobs, latest first; `before` is the number of the last one of the page before."""
        page = partial(self._jobs.page, before=before, limit=limit, collection=collection, state=state)
        return await self._in_thread(page)

    async def refused(self, job: Job, *, after: int, limit: int) -> list[Entry]:
        """What the job refused, in the order of the source."""
        return await self._in_thread(lambda: self._jobs.refused(job, after=after, limit=limit))

    async def cancel(self, job_id: str) -> Job:
        """Stop a job; what it stored stays. Returns when it has stopped. Raises WrongState for one that has ended."""
        return await self._whole(self._cancel(job_id))

    async def resume(self, job_id: str) -> Job:
        """Go on with an ended job, what it refused included; another stays as it is. Raises WrongState."""
        return await self._whole(self._resume(job_id))

    async def _whole(self, call: Coroutine[Any, Any, Job]) -> Job:
        """Its answer, and the call to its end where the caller hangs up: what is written down must also be acted on."""
        task = asyncio.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return await asyncio.shield(task)

    async def _cancel(self, job_id: str) -> Job:
        async with self._turn:
            job = await self.get(job_id)
            if job.state == "queued":
                job = await self._in_thread(lambda: self._jobs.end(job, "cancelled"))
                await self._woken()
                return job
            running = self._running.get(job_id)
            if running is not None and running.task is not None:
                running.cancelled = True
                if not running.ending:
                    running.task.cancel()
        if running is not None and running.task is not None:
            await asyncio.wait([running.task])
            job = await self.get(job_id)
        if job.state != "cancelled":
            raise WrongState(f"the job has ended: {job.state}")
        return job

    async def _resume(self, job_id: str) -> Job:
        async with self._turn:
            job = await self.get(job_id)
            running = self._running.get(job_id)
            if job.ended and running is not None and running.task is not None:
                await asyncio.wait([running.task])  # what it was cancelled in has to be over first
            job = await self._in_thread(lambda: self._jobs.resume(job_id))
        await self._woken()
        return job

    async def changed(self, job_id: str, revision: int, *, timeout_s: float) -> Job | None:
        """The job once its revision is another than this; None after `timeout_s`, or when the service stops."""
        end = asyncio.get_running_loop().time() + timeout_s
        while True:
            pulse = self._pulse  # before the job is read, so that no change falls in between
            job = await self.get(job_id)
            left_s = end - asyncio.get_running_loop().time()
            if job.revision != revision:
                return job
            if left_s <= 0 or self.closing.is_set():
                return None
            try:
                await asyncio.wait_for(pulse.wait(), left_s)
            except TimeoutError:
                return None

    async def _schedule(self) -> None:
        while True:
            self._wake.clear()
            try:
                while len(self._running) < self._settings.ingest_jobs and await self._start_next():
                    pass
            except JobsBroken:
                logger.exception("the jobs cannot be read; trying again in %g s", _RETRY_S)
                await asyncio.sleep(_RETRY_S)
                continue
            await self._wake.wait()

    async def _start_next(self) -> bool:
        async with self._turn:
            claimed = await self._in_thread(self._jobs.claim)
            if claimed is None:
                return False
            job, stalls = claimed
            running = self._running[job.id] = _Running()
            running.task = asyncio.create_task(self._run(job, stalls, running), name=f"job {job.id}")
        await self._count()
        self._tell()
        return True

    async def _run(self, job: Job, stalls: int, running: _Running) -> None:
        try:
            end = await self._outcome(job, stalls)
            running.ending = True
            await self._until_saved(end)
        except asyncio.CancelledError:
            if running.cancelled and not running.ending:
                running.ending = True
                await self._until_saved(partial(self._jobs.end, job, "cancelled"))
            elif not running.ending:
                await asyncio.to_thread(self._jobs.release, job)
        finally:
            del self._running[job.id]
            self._wake.set()
            self._tell()
        await self._count()

    async def _outcome(self, job: Job, stalls: int) -> Callable[[], object]:
        """Run it; what has to be written down at its end."""
        if stalls >= MAX_STALLS:
            detail = f"the service ended {stalls} times at this job before a clip was done; resume it to try again"
            return partial(self._jobs.end, job, "failed", {"title": "The job was given up", "detail": detail})
        logger.info("job %s: %s %r into %r", job.id, job.kind, job.path, job.collection)
        try:
            await Run(job, self._tools, self._tell)()
        except Exception as error:
            cause: BaseException = error
            while isinstance(cause, BaseExceptionGroup):
                cause = cause.exceptions[0]
            logger.warning("job %s failed: %s", job.id, problem_of(cause).detail)
            return partial(self._jobs.end, job, "failed", reason_of(cause))
        return partial(self._jobs.end, job, "succeeded")

    async def _until_saved(self, call: Callable[[], object]) -> None:
        while True:
            try:
                await self._in_thread(call)
                await self._in_thread(lambda: self._jobs.forget_old(self._settings.ingest_jobs_kept))
            except JobsBroken:
                logger.exception("the end of a job cannot be written down; trying again in %g s", _RETRY_S)
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def _woken(self) -> None:
        self._wake.set()
        self._tell()
        await self._count()

    async def _count(self) -> None:
        found = await self._in_thread(self._jobs.counts)
        for state in get_args(State):
            self._metrics.jobs.labels(state).set(found.get(state, 0))

    def _tell(self) -> None:
        self._pulse.set()
        self._pulse = asyncio.Event()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await in_thread(call, self._threads)
