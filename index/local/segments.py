"""The catalog's vectors: segments as SQLite rows, keyed by the integers that the vector index knows them by."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from index.errors import StorageFailed
from index.filters import Filter
from index.local.metadata_index import SqlValue, is_bounded, to_sql
from index.types import Ids, NewSegment, Vector

# Vectors are stored little-endian whatever the machine, so that a data folder can move.
_STORED = np.dtype("<f4")


@dataclass(frozen=True)
class SegmentRow:
    """A segment: its key, its item's key, and its place in the clip in seconds."""

    key: int
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
    return {row[0]: SegmentRow(*row) for row in connection.execute(sql, (json.dumps(list(keys)),))}


def segments_with_vectors(
    connection: sqlite3.Connection, keys: Iterable[int], dim: int
) -> tuple[list[int], dict[int, SegmentRow], Vector]:
    """Those of `keys` that exist, each one's row, and their vectors [n, D] in the order of the keys returned."""
    sql = "SELECT pk, item, start_s, end_s, vector FROM segments WHERE pk IN (SELECT value FROM json_each(?))"
    rows = connection.execute(sql, (json.dumps(list(keys)),)).fetchall()
    return (
        [row[0] for row in rows],
        {row[0]: SegmentRow(*row[:4]) for row in rows},
        _matrix([row[4] for row in rows], dim),
    )


def item_vectors(connection: sqlite3.Connection, item: int, dim: int) -> Vector:
    """[segments, D] float32 in the order of the clip."""
    rows = connection.execute("SELECT vector FROM segments WHERE item = ? ORDER BY start_s, pk", (item,)).fetchall()
    return _matrix([vector for (vector,) in rows], dim)


def matching_segments(
    connection: sqlite3.Connection,
    collection: int,
    where: Filter,
    exclude_ids: Sequence[str],
    among: Sequence[int] | None = None,
) -> Ids:
    """Keys of the segments whose item passes the filter and is not excluded, ascending.

    Args:
        among: keys of the only items that are asked, which should be few.
    """
    # Only the compiled filter is spliced in: names and values are parameters.
    if among is not None:
        condition, params = to_sql(where, collection, "items.pk", each=True)
        sql = (
            "SELECT segments.pk FROM json_each(?) AS one CROSS JOIN items ON items.pk = one.value"  # noqa: S608
            f" CROSS JOIN segments ON segments.item = items.pk WHERE items.collection = ? AND ({condition})"
        )
        params = [json.dumps(list(among)), collection, *params]
    elif is_bounded(where):
        # By way of the metadata's index alone, which knows the collection: the cost is that of what passes.
        condition, params = to_sql(where, collection, "item")
        sql = f"SELECT pk FROM segments WHERE {condition}"  # noqa: S608
    else:
        condition, params = to_sql(where, collection)
        sql = (
            "SELECT segments.pk FROM items JOIN segments ON segments.item = items.pk"  # noqa: S608
            f" WHERE items.collection = ? AND ({condition})"
        )
        params = [collection, *params]
    keys = np.sort(_integers(connection, sql, params))
    return np.setdiff1d(keys, segments_of(connection, collection, exclude_ids)) if exclude_ids else keys


def segments_of_items(connection: sqlite3.Connection, items: Iterable[int]) -> Ids:
    """Keys of the segments of the items of these keys that exist."""
    sql = "SELECT pk FROM segments WHERE item IN (SELECT value FROM json_each(?))"
    return _integers(connection, sql, [json.dumps(list(items))])


def segments_of(connection: sqlite3.Connection, collection: int, item_ids: Sequence[str]) -> Ids:
    """Keys of the segments of the named items that exist."""
    sql = (
        "SELECT segments.pk FROM items JOIN segments ON segments.item = items.pk"
        " WHERE items.collection = ? AND items.id IN (SELECT value FROM json_each(?))"
    )
    return _integers(connection, sql, [collection, json.dumps(list(item_ids))])


def collection_keys(connection: sqlite3.Connection, collection: int) -> Ids:
    """Keys of a collection's segments, ascending; read from an index, not from the rows with their vectors."""
    return np.sort(_integers(connection, "SELECT pk FROM segments WHERE collection = ?", [collection]))


def vectors_of(connection: sqlite3.Connection, keys: Ids, dim: int) -> tuple[Ids, Vector]:
    """Those of `keys` that exist, ascending, and their vectors [n, D]."""
    rows = sorted(stored_vectors(connection, keys.tolist()))
    return np.array([row[0] for row in rows], dtype=np.int64), _matrix([row[1] for row in rows], dim)


def stored_vectors(connection: sqlite3.Connection, keys: Iterable[int]) -> list[tuple[int, bytes]]:
    """Those of `keys` that exist, and their vectors' bytes as they lie in the file."""
    sql = "SELECT pk, vector FROM segments WHERE pk IN (SELECT value FROM json_each(?))"
    return connection.execute(sql, (json.dumps(list(keys)),)).fetchall()


def vectors_after(
    connection: sqlite3.Connection, collection: int, dim: int, after: int, limit: int
) -> tuple[Ids, Vector]:
    """The next `limit` of a collection's keys past `after`, and their vectors [n, D]."""
    sql = "SELECT pk, vector FROM segments WHERE collection = ? AND pk > ? ORDER BY pk LIMIT ?"
    rows = connection.execute(sql, (collection, after, limit)).fetchall()
    return np.array([row[0] for row in rows], dtype=np.int64), _matrix([row[1] for row in rows], dim)


def _integers(connection: sqlite3.Connection, sql: str, params: Sequence[SqlValue]) -> Ids:
    """What a query of one column `pk` gives. As one text, which takes a third of the time of a million rows."""
    (text,) = connection.execute(f"SELECT group_concat(pk) FROM ({sql})", params).fetchone()  # noqa: S608
    return np.fromstring(text, dtype=np.int64, sep=",") if text else np.empty(0, dtype=np.int64)


def _matrix(blobs: Sequence[bytes], dim: int) -> Vector:
    if any(len(blob) != dim * _STORED.itemsize for blob in blobs):
        raise StorageFailed(f"the catalog holds a vector that has not {dim} dimensions: the file is damaged")
    flat = np.frombuffer(b"".join(blobs), dtype=_STORED)
    return flat.astype(np.float32).reshape(len(blobs), dim)
