"""The catalog's vectors: segments as SQLite rows, keyed by the integers that the vector index knows them by."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np

from index.errors import StorageFailed
from index.facts import SqlValue, to_sql
from index.filters import Filter
from index.types import Ids, NewSegment, Vector

# Vectors are stored little-endian whatever the machine, so that a data folder can move.
_STORED = np.dtype("<f4")


@dataclass(frozen=True)
class SegmentRow:
    """A segment: its item's key, and its place in the clip in seconds."""

    item: int
    start_s: float
    end_s: float


def insert_segments(
    connection: sqlite3.Connection, collection: int, item: int, segments: Sequence[NewSegment]
) -> list[int]:
    """Store an item's checked segments; returns their keys in the same order."""
    sql = "INSERT INTO segments (item, collection, start_s, end_s, vector) VALUES (?, ?, ?, ?, ?)"
    keys = []
    for one in segments:
        vector = np.asarray(one.vector, dtype=_STORED).tobytes()
        cursor = connection.execute(sql, (item, collection, one.start_s, one.end_s, vector))
        keys.append(int(cursor.lastrowid or 0))
    return keys


def remove_segments(connection: sqlite3.Connection, item: int) -> list[int]:
    """Delete an item's segments; returns their keys."""
    keys = [key for (key,) in connection.execute("SELECT pk FROM segments WHERE item = ?", (item,))]
    connection.execute("DELETE FROM segments WHERE item = ?", (item,))
    return keys


def segment_rows(connection: sqlite3.Connection, keys: Iterable[int]) -> dict[int, SegmentRow]:
    """Segments by key."""
    sql = "SELECT pk, item, start_s, end_s FROM segments WHERE pk IN (SELECT value FROM json_each(?))"
    return {row[0]: SegmentRow(*row[1:]) for row in connection.execute(sql, (json.dumps(list(keys)),))}


def item_vectors(connection: sqlite3.Connection, item: int, dim: int) -> Vector:
    """[segments, D] float32 in the order of the clip."""
    rows = connection.execute("SELECT vector FROM segments WHERE item = ? ORDER BY start_s, pk", (item,)).fetchall()
    return _matrix([vector for (vector,) in rows], dim)


def matching_segments(
    connection: sqlite3.Connection, collection: int, where: Filter | None, exclude_ids: Sequence[str]
) -> Ids:
    """Keys of the segments whose item passes the filter and is not excluded, ascending."""
    condition, params = to_sql(where, collection) if where is not None else ("1", list[SqlValue]())
    # Only the compiled filter is spliced in: names and values are parameters.
    sql = (
        "SELECT segments.pk FROM items JOIN segments ON segments.item = items.pk"  # noqa: S608
        f" WHERE items.collection = ? AND ({condition}) AND items.id NOT IN (SELECT value FROM json_each(?))"
    )
    rows = connection.execute(sql, [collection, *params, json.dumps(list(exclude_ids))])
    keys = np.fromiter((key for (key,) in rows), dtype=np.int64)
    keys.sort()
    return keys


def segments_of(connection: sqlite3.Connection, collection: int, item_ids: Sequence[str]) -> Ids:
    """Keys of the segments of the named items that exist."""
    rows = connection.execute(
        "SELECT segments.pk FROM items JOIN segments ON segments.item = items.pk"
        " WHERE items.collection = ? AND items.id IN (SELECT value FROM json_each(?))",
        (collection, json.dumps(list(item_ids))),
    )
    return np.fromiter((key for (key,) in rows), dtype=np.int64)


def scan_vectors(
    connection: sqlite3.Connection, dims: dict[int, int], *, batch: int = 8192
) -> Iterator[tuple[int, Ids, Vector]]:
    """Every vector in runs of one collection: (collection, keys [n], vectors [n, D]), n at most `batch`.

    Args:
        dims: number of dimensions by collection key.

    Raises:
        StorageFailed: a stored vector has another length than its collection's.
    """
    cursor = connection.execute("SELECT collection, pk, vector FROM segments ORDER BY pk")
    while rows := cursor.fetchmany(batch):
        for collection, run in groupby(rows, key=itemgetter(0)):
            part = list(run)
            keys = np.array([row[1] for row in part], dtype=np.int64)
            yield collection, keys, _matrix([row[2] for row in part], dims[collection])


def collection_vectors(connection: sqlite3.Connection, collection: int, dim: int) -> tuple[Ids, Vector]:
    """One collection's keys [n] and vectors [n, D]. Raises StorageFailed on a vector of another length."""
    rows = connection.execute(
        "SELECT pk, vector FROM segments WHERE collection = ? ORDER BY pk", (collection,)
    ).fetchall()
    return np.array([row[0] for row in rows], dtype=np.int64), _matrix([row[1] for row in rows], dim)


def _matrix(blobs: Sequence[bytes], dim: int) -> Vector:
    if any(len(blob) != dim * _STORED.itemsize for blob in blobs):
        raise StorageFailed(f"the catalog holds a vector that has not {dim} dimensions: the file is damaged")
    flat = np.frombuffer(b"".join(blobs), dtype=_STORED)
    return flat.astype(np.float32).reshape(len(blobs), dim)
