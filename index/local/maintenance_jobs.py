"""The jobs that keep one collection's index in shape: build, thaw, absorb, save. Maintenance decides which one is due.

All slow work happens beside the live index; only the swap itself holds searches up.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import numpy as np

from index.ann.collection_index import CollectionIndex
from index.ann.flat import faiss_threads
from index.ann.ivf import FrozenIndex
from index.ann.plan import IndexSettings, Plan
from index.errors import BuildFailed, CollectionNotFound
from index.local import builder
from index.local.build_child import Order
from index.local.build_subprocess import build_apart
from index.local.builder import BuildStopped
from index.local.catalog import CollectionRow
from index.local.database import Database
from index.local.mirror import Mirror
from index.local.snapshot import SnapshotFolder
from index.local.vector_source import Source

_log = logging.getLogger(__name__)


class Worker:
    """Does one job at a time; the caller sees to that."""

    def __init__(
        self,
        database: Database,
        mirror: Mirror,
        snapshots: SnapshotFolder,
        settings: IndexSettings,
        stopping: threading.Event,
    ) -> None:
        self._database = database
        self._mirror = mirror
        self._snapshots = snapshots
        self._settings = settings
        self._stopping = stopping
        # Vectors in the last snapshot, by the collection's key.
        self.saved: dict[int, int] = {}

    def build(self, row: CollectionRow, plan: Plan) -> bool:
        """Build the index anew and swap it in; False if the collection has gone or was emptied in the meantime.

        Raises:
            BuildStopped: the store closes.
            BuildFailed: the process that built it crashed; the old index serves on.
            CollectionNotFound, StorageFailed.
        """
        with self._mirror.swapping():
            _, index = self._current(row)
            index.remember()
        started = time.monotonic()
        file = self._snapshots.beside(row)
        try:
            frozen = self._built_apart(row, plan, file) if self._settings.build_apart else self._built_here(row, plan)
            with self._mirror.swapping():
                _, index = self._current(row)
                gone = index.removed()
                if gone is None:
                    return True  # The index was made anew in between and took no note: build again.
                index.replace(frozen, gone)
            seconds = time.monotonic() - started
            _log.info("built %s of %d vectors for collection %r in %.1f s", plan.kind, len(frozen), row.name, seconds)
            self.saved.pop(row.pk, None)
            if self._settings.build_apart:
                with self._database.snapshot() as connection:
                    size = self._snapshots.publish(connection, row, frozen, file)
                self._saved_as(row, frozen, size)
        except BuildStopped:
            if self._stopping.is_set():
                raise
            return False
        finally:
            with self._mirror.swapping():
                index.forget()
            file.unlink(missing_ok=True)
        return True

    def thaw(self, row: CollectionRow) -> bool:
        """Take the collection back to being scanned whole."""
        source = self.source(row)
        with self._mirror.swapping():
            self._current(row)
            keys, vectors = source.fetch(source.keys())
            fresh = CollectionIndex(row.dim)
            fresh.add(keys, vectors)
            self._mirror.put(row, fresh)
        self._snapshots.remove(row.pk)
        self.saved.pop(row.pk, None)
        return True

    def absorb(self, row: CollectionRow, index: CollectionIndex) -> bool:
        """Merge the delta into the built index."""
        with self._mirror.reading():
            keys, vectors = index.delta()
            frozen = index.frozen
        assert frozen is not None
        order = np.argsort(keys)
        with faiss_threads(self._settings.build_threads):
            prepared = frozen.prepare(keys[order], vectors[order])
        with self._mirror.swapping():
            _, current = self._current(row)
            if current.frozen is frozen:
                current.absorb(prepared)
        return True

    def save(self, row: CollectionRow, index: CollectionIndex) -> bool:
        """Write a snapshot. Only these jobs change a built index, so searches and commits go on.

        Raises:
            StorageFailed: the disk refused; the old snapshot stays.
        """
        frozen = index.frozen
        assert frozen is not None
        with self._database.snapshot() as connection:
            size = self._snapshots.write(connection, row, frozen)
        self._saved_as(row, frozen, size)
        return True

    def tune(self, row: CollectionRow, frozen: FrozenIndex, target_recall: float) -> None:
        """Measure the collection's own vectors, and keep the least effort that reaches the recall@10."""
        source = self.source(row)
        probe = builder.probe_of(source, self._check)
        frozen.set_effort(builder.tune(source, frozen, probe, target_recall, self._check))
        self._snapshots.update_facts(row, frozen.facts)

    def source(self, row: CollectionRow) -> Source:
        """The collection's vectors, as the catalog has them."""
        return Source(self._database, row.pk, row.dim)

    def _built_here(self, row: CollectionRow, plan: Plan) -> FrozenIndex:
        settings = self._settings
        return builder.build(
            self.source(row),
            plan,
            target_recall=settings.target_recall,
            threads=settings.build_threads,
            check=self._check,
        )

    def _built_apart(self, row: CollectionRow, plan: Plan, file: Path) -> FrozenIndex:
        settings = self._settings
        order = Order(
            catalog=self._database.path,
            collection=row.pk,
            dim=row.dim,
            plan=plan,
            target_recall=settings.target_recall,
            threads=settings.build_threads,
            niceness=settings.build_niceness,
            file=file,
        )

        def check() -> None:
            self._check()
            with self._mirror.reading():
                try:
                    self._current(row)
                except CollectionNotFound:
                    raise BuildStopped from None

        built = build_apart(order, check)
        try:
            return FrozenIndex.read(built.file, built.facts)
        except (ValueError, OSError) as error:
            raise BuildFailed("left a file that can't be read", str(error)) from error

    def _saved_as(self, row: CollectionRow, frozen: FrozenIndex, size: int) -> None:
        self.saved[row.pk] = len(frozen)
        _log.info("saved the index of collection %r: %d vectors, %d bytes", row.name, len(frozen), size)
        try:
            with self._mirror.reading():
                self._current(row)
        except CollectionNotFound:
            self._snapshots.remove(row.pk)

    def _current(self, row: CollectionRow) -> tuple[CollectionRow, CollectionIndex]:
        """The same collection as it is now. Raises CollectionNotFound if it was deleted, or made anew."""
        found, index = self._mirror.get(row.name)
        if found != row:
            raise CollectionNotFound(row.name)
        return found, index

    def _check(self) -> None:
        if self._stopping.is_set():
            raise BuildStopped
