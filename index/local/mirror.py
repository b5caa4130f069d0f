"""The vectors of every collection in memory, and the lock under which they and the catalog change together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from sqlite3 import Connection

import numpy as np

from index.ann.collection_index import CollectionIndex
from index.ann.ivf import FrozenIndex
from index.ann.plan import IndexSettings
from index.errors import CollectionNotFound
from index.local.catalog import CollectionRow, collection_info, collection_rows
from index.local.changelog import Change
from index.local.segments import collection_keys, vectors_of
from index.local.snapshot import SnapshotFolder
from index.storage.locks import ReadWriteLock

_BATCH = 8192


class Mirror:
    """Indexes by collection: a cache of the catalog, made from it and from snapshots when the store opens."""

    def __init__(self) -> None:
        self._lock = ReadWriteLock()
        self._live: dict[str, tuple[CollectionRow, CollectionIndex]] = {}

    def load(self, connection: Connection, snapshots: SnapshotFolder, settings: IndexSettings) -> list[str]:
        """Load what snapshots hold and read from the catalog what came after.

        Returns:
            The collections without a snapshot whose vectors are more than the memory planned for: they are still to
            be built before anybody searches.
        """
        rows = collection_rows(connection)
        snapshots.sweep({row.pk for row in rows})
        unbuilt = []
        for row in rows:
            index = CollectionIndex(row.dim)
            frozen = snapshots.load(connection, row)
            segments = collection_info(connection, row.name).segments
            if frozen is None and segments * row.dim * 4 > max(settings.budget(), settings.flat_bytes):
                unbuilt.append(row.name)
            else:
                fill(connection, row, index, frozen)
            self._live[row.name] = (row, index)
        return unbuilt

    def all(self) -> list[tuple[CollectionRow, CollectionIndex]]:
        """Every collection and its vectors."""
        return list(self._live.values())

    def names(self) -> list[str]:
        """The collections there are."""
        return list(self._live)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """No commit happens within; a snapshot taken inside is of the same moment as the indexes."""
        with self._lock.reading():
            yield

    @contextmanager
    def swapping(self) -> Iterator[None]:
        """No search and no commit happens within."""
        with self._lock.writing():
            yield

    @contextmanager
    def committing(self, connection: Connection) -> Iterator[None]:
        """Commit the connection's transaction; the block brings the indexes to it before any search runs again."""
        with self._lock.writing():
            connection.commit()
            yield

    def get(self, name: str) -> tuple[CollectionRow, CollectionIndex]:
        """A collection and its vectors, which may be used while reading or swapping. Raises CollectionNotFound."""
        try:
            return self._live[name]
        except KeyError:
            raise CollectionNotFound(name) from None

    def add(self, row: CollectionRow) -> None:
        """A new, empty collection was committed."""
        self._live[row.name] = (row, CollectionIndex(row.dim))

    def put(self, row: CollectionRow, index: CollectionIndex) -> None:
        """Serve a collection from another index; call it while swapping."""
        self._live[row.name] = (row, index)

    def drop(self, row: CollectionRow) -> None:
        """The deletion of a collection was committed."""
        del self._live[row.name]

    def change(self, connection: Connection, row: CollectionRow, change: Change) -> None:
        """A change was committed."""
        _, index = self._live[row.name]
        try:
            index.remove(np.array(change.removed, dtype=np.int64))
            if change.vectors is not None:
                index.add(np.array(change.added, dtype=np.int64), change.vectors)
        except Exception:
            # The commit stands and must be answered as such: a cache that failed to follow is made anew.
            fresh = CollectionIndex(row.dim)
            fill(connection, row, fresh, index.frozen)
            self._live[row.name] = (row, fresh)

    def clear(self) -> None:
        """Let the memory go."""
        self._live.clear()


def fill(connection: Connection, row: CollectionRow, index: CollectionIndex, frozen: FrozenIndex | None) -> None:
    """Bring an empty index to the state of the catalog, with a frozen index of whatever age."""
    live = collection_keys(connection, row.pk)
    held = frozen.keys if frozen is not None else np.empty(0, dtype=np.int64)
    index.replace(frozen, np.setdiff1d(held, live, assume_unique=True))
    missing = np.setdiff1d(live, held, assume_unique=True)
    for start in range(0, len(missing), _BATCH):
        index.add(*vectors_of(connection, missing[start : start + _BATCH], row.dim))
