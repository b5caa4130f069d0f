"""The vectors of every collection in memory, and the lock under which they and the catalog change together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from sqlite3 import Connection

import numpy as np

from index.catalog import CollectionRow, collection_rows
from index.errors import CollectionNotFound
from index.faiss_index import FlatIndex
from index.locks import ReadWriteLock
from index.segments import collection_vectors, scan_vectors
from index.types import Vector


class Mirror:
    """FAISS indexes by collection: a cache of the catalog, made from it when the store opens."""

    def __init__(self) -> None:
        self._lock = ReadWriteLock()
        self._live: dict[str, tuple[CollectionRow, FlatIndex]] = {}

    def load(self, connection: Connection) -> None:
        """Read all vectors of the catalog, in one pass over it."""
        rows = {row.pk: row for row in collection_rows(connection)}
        indexes = {pk: FlatIndex(row.dim) for pk, row in rows.items()}
        for pk, keys, vectors in scan_vectors(connection, {pk: row.dim for pk, row in rows.items()}):
            indexes[pk].add(keys, vectors)
        self._live = {row.name: (row, indexes[pk]) for pk, row in rows.items()}

    @contextmanager
    def reading(self) -> Iterator[None]:
        """No commit happens within; a snapshot taken inside is of the same moment as the indexes."""
        with self._lock.reading():
            yield

    @contextmanager
    def committing(self, connection: Connection) -> Iterator[None]:
        """Commit the connection's transaction; the block brings the indexes to it before any search runs again."""
        with self._lock.writing():
            connection.commit()
            yield

    def get(self, name: str) -> tuple[CollectionRow, FlatIndex]:
        """A collection and its vectors; call it while reading. Raises CollectionNotFound."""
        try:
            return self._live[name]
        except KeyError:
            raise CollectionNotFound(name) from None

    def add(self, row: CollectionRow) -> None:
        """A new, empty collection was committed."""
        self._live[row.name] = (row, FlatIndex(row.dim))

    def drop(self, row: CollectionRow) -> None:
        """The deletion of a collection was committed."""
        del self._live[row.name]

    def change(
        self, connection: Connection, row: CollectionRow, removed: Sequence[int], added: Sequence[int], vectors: Vector
    ) -> None:
        """Segments `removed`, and `added` with vectors [n, D], were committed."""
        _, index = self._live[row.name]
        try:
            index.remove(np.array(removed, dtype=np.int64))
            index.add(np.array(added, dtype=np.int64), vectors)
        except Exception:
            # The commit stands and must be answered as such: a cache that failed to follow is made anew.
            fresh = FlatIndex(row.dim)
            fresh.add(*collection_vectors(connection, row.pk, row.dim))
            self._live[row.name] = (row, fresh)

    def clear(self) -> None:
        """Let the memory go."""
        self._live.clear()
