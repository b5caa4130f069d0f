"""A collection's vectors as a build reads them: in short snapshots, from this process or from another.

Short, so that a build of minutes holds up neither writers nor the checkpoints of SQLite's log.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from index.local.database import BUSY_TIMEOUT_S, storage_errors
from index.local.segments import collection_keys, vectors_after, vectors_of
from index.types import Ids, Vector

BATCH = 8192


class Reads(Protocol):
    """Gives connections that see one state of the catalog for the length of a block."""

    def snapshot(self) -> AbstractContextManager[sqlite3.Connection]: ...


class Vectors(Protocol):
    """What a build reads: vectors [n, dim] by key."""

    @property
    def dim(self) -> int: ...

    def keys(self) -> Ids:
        """All keys, ascending."""

    def fetch(self, keys: Ids) -> tuple[Ids, Vector]:
        """Those of `keys` that are still there, and their vectors."""

    def scan(self) -> Iterator[tuple[Ids, Vector]]:
        """Every vector in order of its key; what comes while it scans is met at the end."""


class ReadOnlyCatalog:
    """A catalog that another process owns and may be writing. For one thread."""

    def __init__(self, path: Path) -> None:
        """Raises StorageFailed if the file can't be opened."""
        with storage_errors():
            self._connection = open_catalog(path)

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        with storage_errors():
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._connection.rollback()

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()


def open_catalog(path: Path) -> sqlite3.Connection:
    """For reading only; the owner of the folder may be writing."""
    uri = f"{path.resolve().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)


@dataclass(frozen=True)
class Source:
    """One collection's vectors [n, dim], as `Vectors` describes them."""

    catalog: Reads
    collection: int
    dim: int

    def keys(self) -> Ids:
        with self.catalog.snapshot() as connection:
            return collection_keys(connection, self.collection)

    def fetch(self, keys: Ids) -> tuple[Ids, Vector]:
        if len(keys) <= BATCH:
            with self.catalog.snapshot() as connection:
                return vectors_of(connection, keys, self.dim)
        # In parts: the rows in between take twice the memory of what becomes of them.
        found, count = np.empty(len(keys), dtype=np.int64), 0
        vectors = np.empty((len(keys), self.dim), dtype=np.float32)
        for start in range(0, len(keys), BATCH):
            with self.catalog.snapshot() as connection:
                some, rows = vectors_of(connection, keys[start : start + BATCH], self.dim)
            found[count : count + len(some)] = some
            vectors[count : count + len(some)] = rows
            count += len(some)
        return found[:count], vectors[:count]

    def scan(self) -> Iterator[tuple[Ids, Vector]]:
        after = 0
        while True:
            with self.catalog.snapshot() as connection:
                keys, vectors = vectors_after(connection, self.collection, self.dim, after, BATCH)
            if not len(keys):
                return
            yield keys, vectors
            after = int(keys[-1])
