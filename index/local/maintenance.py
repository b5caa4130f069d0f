"""Tends the indexes while they serve: decides what each one needs and has it done. One job at a time."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Literal

from index.ann.collection_index import CollectionIndex
from index.ann.ivf import FrozenFacts
from index.ann.plan import IndexSettings, Plan, make_plan
from index.errors import CollectionNotFound, StoreClosed
from index.local.builder import BuildStopped
from index.local.catalog import CollectionRow, collection_info
from index.local.database import Database
from index.local.maintenance_jobs import Worker
from index.local.mirror import Mirror
from index.local.snapshot import SnapshotFolder

Task = Literal["build", "thaw", "absorb", "save"]
# After a failure a collection is left alone this long, after each further one in a row twice as long.
RETRY_S = 60.0
LONGEST_RETRY_S = 3600.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IndexFacts:
    """How a collection is indexed now: vectors in the built index (`frozen` None: there is none) and beside it."""

    vectors: int
    delta: int
    dead: int
    saved: int
    frozen: FrozenFacts | None
    lists: int
    plan: Plan


class Maintenance:
    """Looks after every collection of a store, in a thread of its own once `start` was called."""

    def __init__(self, database: Database, mirror: Mirror, snapshots: SnapshotFolder, settings: IndexSettings) -> None:
        self._database = database
        self._mirror = mirror
        self._snapshots = snapshots
        self._settings = settings
        self._working = threading.RLock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._worker = Worker(database, mirror, snapshots, settings, self._stopping)
        # How often in a row jobs failed, and when to try again, by the collection's key.
        self._failed: dict[int, tuple[int, float]] = {}
        self._thread = threading.Thread(target=self._run, name="index-maintenance", daemon=True)

    def start(self, *, background: bool) -> None:
        """What was loaded counts as saved; then, in the background, look after everything until `stop`."""
        for name in self._mirror.names():
            row, index = self._mirror.get(name)
            self._worker.saved.setdefault(row.pk, len(index.frozen) if index.frozen else 0)
        if background:
            self._wake.set()
            self._thread.start()

    def stop(self) -> None:
        """Give up what is being built and wait for the thread."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def changed(self) -> None:
        """Something was committed."""
        self._wake.set()

    def forget(self, row: CollectionRow) -> None:
        """A collection was deleted."""
        self._snapshots.remove(row.pk)

    def settle(self) -> None:
        """Do all that is to do now, in the caller's thread.

        Raises:
            StorageFailed, BuildFailed, MemoryError: a job failed; the old index serves on.
        """
        for name in self._mirror.names():
            while self._tend(name):
                pass

    def rebuild(self, name: str) -> IndexFacts:
        """Build the collection's index anew as it is planned now, and save it.

        Raises:
            CollectionNotFound.
            StorageFailed, BuildFailed, MemoryError: the old index serves on.
        """
        with self._working:
            facts = self.facts(name)
            with self._mirror.reading():
                row, _ = self._mirror.get(name)
            if facts.plan.kind != "flat":
                self._worker.build(row, facts.plan)
            elif facts.frozen is not None:
                self._worker.thaw(row)
            while self._tend(name):
                pass
            return self.facts(name)

    def tune(self, name: str, target_recall: float) -> IndexFacts:
        """Measure the collection's own vectors and set the effort that reaches the recall@10; no-op while flat.

        Raises:
            CollectionNotFound.
        """
        with self._working:
            while self._tend(name):
                pass
            with self._mirror.reading():
                row, index = self._mirror.get(name)
            if index.frozen is not None:
                self._worker.tune(row, index.frozen, target_recall)
            return self.facts(name)

    def facts(self, name: str) -> IndexFacts:
        """How the collection is indexed. Raises CollectionNotFound."""
        with self._database.snapshot() as connection:
            segments = collection_info(connection, name).segments
        with self._mirror.reading():
            row, index = self._mirror.get(name)
            frozen = index.frozen
            return IndexFacts(
                vectors=len(index),
                delta=index.delta_size,
                dead=index.dead,
                saved=self._worker.saved.get(row.pk, 0),
                frozen=frozen.facts if frozen is not None else None,
                lists=frozen.lists if frozen is not None else 0,
                plan=self._plan(row, segments),
            )

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(RETRY_S)
            self._wake.clear()
            for name in self._mirror.names():
                try:
                    while not self._stopping.is_set() and self._ripe(name) and self._tend(name):
                        self._worked(name)
                except (BuildStopped, StoreClosed, CollectionNotFound):
                    continue
                except Exception:
                    _log.exception("the index of collection %r could not be tended; the old one serves on", name)
                    self._postpone(name)

    def _ripe(self, name: str) -> bool:
        with self._mirror.reading():
            row, _ = self._mirror.get(name)
        return time.monotonic() >= self._failed.get(row.pk, (0, 0.0))[1]

    def _worked(self, name: str) -> None:
        if self._failed:
            with self._mirror.reading():
                row, _ = self._mirror.get(name)
            self._failed.pop(row.pk, None)

    def _postpone(self, name: str) -> None:
        try:
            with self._mirror.reading():
                row, _ = self._mirror.get(name)
        except CollectionNotFound:
            return
        times, _ = self._failed.get(row.pk, (0, 0.0))
        pause = min(LONGEST_RETRY_S, RETRY_S * 2**times)
        self._failed[row.pk] = (times + 1, time.monotonic() + pause)

    def _tend(self, name: str) -> bool:
        """Do the most urgent job of a collection; False if there is none."""
        with self._working:
            try:
                with self._mirror.reading():
                    row, index = self._mirror.get(name)
                    plan = self._plan(row, len(index))
                    task = self._task(row, index, plan)
            except CollectionNotFound:
                return False
            if task == "build":
                return self._worker.build(row, plan)
            if task == "thaw":
                return self._worker.thaw(row)
            if task == "absorb":
                return self._worker.absorb(row, index)
            if task == "save":
                return self._worker.save(row, index)
            return False

    def _task(self, row: CollectionRow, index: CollectionIndex, plan: Plan) -> Task | None:
        settings, frozen = self._settings, index.frozen
        if frozen is None:
            return "build" if plan.kind != "flat" else None
        # Half the limit, so that a collection at the limit does not go to and fro.
        if len(index) * row.dim * 4 <= settings.flat_bytes // 2:
            return "thaw"
        outgrown = len(index) > settings.regrow * frozen.facts.trained_on
        too_large = plan.kind == "ivf-pq" and frozen.facts.kind == "ivf-sq8"
        if outgrown or too_large or index.dead > settings.dead_share * len(frozen):
            return "build" if plan.kind != "flat" else "thaw"
        if index.delta_size * row.dim * 4 > settings.delta_bytes:
            return "absorb"
        unsaved = len(frozen) - self._worker.saved.get(row.pk, 0)
        return "save" if unsaved > settings.snapshot_share * len(frozen) else None

    def _plan(self, row: CollectionRow, segments: int) -> Plan:
        """The memory is shared out among the collections by the size of their vectors."""
        sizes = {other.pk: len(index) * other.dim for other, index in self._mirror.all()}
        own = max(1, segments * row.dim)
        total = sum(sizes.values()) - sizes.get(row.pk, 0) + own
        return make_plan(segments, row.dim, self._settings, int(self._settings.budget() * own / total))
