"""The SQLite file under the catalog: its schema, how it is opened, and one transaction at a time for writers."""

from __future__ import annotations

import errno
import queue
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from index.errors import StorageFailed, StorageFull, StoreClosed

SCHEMA_VERSION = 2
BUSY_TIMEOUT_S = 30.0
# After a checkpoint the log is cut back to this many bytes, so that one large upsert does not leave a large file.
WAL_LIMIT_BYTES = 64 * 1024 * 1024

# Segment keys are FAISS's ids: AUTOINCREMENT never gives one out twice, so a stale id can't name another clip.
# `facts` is the filters' index of items.metadata (see facts.py); counts are kept beside what they count.
_SCHEMA = """
CREATE TABLE collections (
    pk INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, dim INTEGER NOT NULL, identity TEXT NOT NULL,
    description TEXT NOT NULL, items INTEGER NOT NULL DEFAULT 0, segments INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL
) STRICT;
CREATE TABLE items (
    pk INTEGER PRIMARY KEY AUTOINCREMENT,
    collection INTEGER NOT NULL REFERENCES collections(pk) ON DELETE CASCADE,
    id TEXT NOT NULL, metadata TEXT NOT NULL, duration_s REAL NOT NULL, content_sha256 TEXT NOT NULL, filename TEXT,
    media_sha256 TEXT, media_type TEXT, segments INTEGER NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
    UNIQUE (collection, id)
) STRICT;
CREATE INDEX items_media ON items(media_sha256) WHERE media_sha256 IS NOT NULL;
CREATE TABLE segments (
    pk INTEGER PRIMARY KEY AUTOINCREMENT, item INTEGER NOT NULL REFERENCES items(pk) ON DELETE CASCADE,
    collection INTEGER NOT NULL, start_s REAL NOT NULL, end_s REAL NOT NULL, vector BLOB NOT NULL
) STRICT;
CREATE INDEX segments_item ON segments(item);
CREATE TABLE facts (
    collection INTEGER NOT NULL, field TEXT NOT NULL, shape INTEGER NOT NULL, kind INTEGER NOT NULL,
    value ANY NOT NULL, item INTEGER NOT NULL REFERENCES items(pk) ON DELETE CASCADE, position INTEGER NOT NULL,
    PRIMARY KEY (collection, field, shape, kind, value, item, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX facts_item ON facts(item);
"""

# Version 2: `changes` counts a collection's commits (remembered answers of filters hang on it), `meta` names the
# catalog (snapshots hang on it), and a collection's segment keys can be read without their vectors.
_UPGRADES = {
    1: """
ALTER TABLE collections ADD COLUMN changes INTEGER NOT NULL DEFAULT 0;
CREATE INDEX segments_collection ON segments(collection);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
INSERT INTO meta VALUES ('catalog', lower(hex(randomblob(16))));
"""
}


class Database:
    """Snapshot reads from a pool of connections; writes through one, in durable transactions."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            StorageFailed: not a database, damaged, not writable, or written by a newer version.
        """
        self.path = path
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._writing = threading.Lock()
        self._use = threading.Condition()
        self._snapshots = 0
        self._closed = False
        with storage_errors():
            self._writer = self._connect()
            self._writer.execute("PRAGMA foreign_keys = ON")
            self._migrate()

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state of the database, that of its first read, for the length of the block."""
        with self._counted(), storage_errors():
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                connection = self._connect()
                connection.execute("PRAGMA query_only = ON")
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                with suppress(sqlite3.Error):
                    connection.rollback()
                self._idle.put(connection)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The writer's connection inside a transaction; the caller commits, and what is not committed is undone."""
        with self._writing, storage_errors():
            self.check_open()
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            finally:
                if self._writer.in_transaction:
                    self._writer.rollback()

    def check_open(self) -> None:
        """Raise StoreClosed after `close`."""
        if self._closed:
            raise StoreClosed("the store is closed")

    def close(self) -> bool:
        """Wait for the blocks in progress and close every connection; the last folds the write-ahead log into the file.

        Returns False if it was closed already.
        """
        with self._writing, self._use:
            if self._closed:
                return False
            self._closed = True
            self._use.wait_for(lambda: self._snapshots == 0)
            while not self._idle.empty():
                self._idle.get_nowait().close()
            self._writer.close()
            return True

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._use:
            self.check_open()
            self._snapshots += 1
        try:
            yield
        finally:
            with self._use:
                self._snapshots -= 1
                self._use.notify_all()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        # FULL: a commit has reached the disk before it is acknowledged (NORMAL may lose the last ones in WAL mode).
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "temp_store = MEMORY",
            f"journal_size_limit = {WAL_LIMIT_BYTES}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _migrate(self) -> None:
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StorageFailed(f"{self.path} has schema {version}; this version knows up to {SCHEMA_VERSION}")
        steps = [_SCHEMA] if version == 0 else []
        steps += [_UPGRADES[number] for number in range(max(1, version), SCHEMA_VERSION)]
        if steps:
            # One transaction with the version in it: a kill in between leaves the old file, not half a schema.
            self._writer.executescript(f"BEGIN; {''.join(steps)} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn what the disk or SQLite refuses into StorageFailed, its cause attached; no room is StorageFull."""
    try:
        yield
    except (sqlite3.DatabaseError, OSError) as error:
        if _is_full(error):
            raise StorageFull(f"the disk is full: {error}") from error
        raise StorageFailed(f"storage failed: {error}") from error


def _is_full(error: sqlite3.DatabaseError | OSError) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "sqlite_errorname", "").startswith("SQLITE_FULL")
