"""The source of truth: collections and items as SQLite rows, read and changed by plain functions.

Each function works inside the transaction of the connection it is given, so what a caller composes is atomic.
"""

from __future__ import annotations

import json
import sqlite3
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from index.errors import CollectionNotFound, ItemNotFound
from index.filters import Filter
from index.local.metadata_index import facts_of, to_sql
from index.local.segments import insert_segments, remove_segments
from index.types import CollectionInfo, Item, Metadata, NewItem
from index.validate import is_collection_name, is_item_id

FILE = "catalog.sqlite"
"""Its name in a data folder, and in a backup."""

_ITEM = "id, metadata, duration_s, content_sha256, filename, media_type, media_sha256, segments, created_at, updated_at"


@dataclass(frozen=True)
class CollectionRow:
    """A collection's key and what its vectors are."""

    pk: int
    name: str
    dim: int
    identity: str


@dataclass(frozen=True)
class Written:
    """What an upsert changed: the item's key, whether it is new, the segments that left and came, the media it had."""

    item: int
    created: bool
    old_media: str | None
    removed: list[int]
    added: list[int]


def now() -> str:
    """The time of a change, RFC 3339 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def collection_row(connection: sqlite3.Connection, name: str) -> CollectionRow:
    """Raises CollectionNotFound."""
    sql = "SELECT pk, name, dim, identity FROM collections WHERE name = ?"
    row = connection.execute(sql, (name,)).fetchone() if is_collection_name(name) else None
    if row is None:
        raise CollectionNotFound(name)
    return CollectionRow(*row)


def catalog_name(connection: sqlite3.Connection) -> str:
    """A random name that this catalog got when it was made."""
    return str(connection.execute("SELECT value FROM meta WHERE key = 'catalog'").fetchone()[0])


def last_segment(connection: sqlite3.Connection) -> int:
    """The largest segment key ever given out, in all collections."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'segments'").fetchone()
    return int(row[0]) if row else 0


def changes(connection: sqlite3.Connection, collection: int) -> int:
    """Counts changes of items, one each: what was derived from the collection at one count holds while it does."""
    return int(connection.execute("SELECT changes FROM collections WHERE pk = ?", (collection,)).fetchone()[0])


def collection_rows(connection: sqlite3.Connection) -> list[CollectionRow]:
    """Every collection, by name."""
    rows = connection.execute("SELECT pk, name, dim, identity FROM collections ORDER BY name")
    return [CollectionRow(*row) for row in rows]


def collection_info(connection: sqlite3.Connection, name: str) -> CollectionInfo:
    """Raises CollectionNotFound."""
    row = collection_row(connection, name)
    description, items, segments, created_at = connection.execute(
        "SELECT description, items, segments, created_at FROM collections WHERE pk = ?", (row.pk,)
    ).fetchone()
    return CollectionInfo(
        name=row.name,
        dim=row.dim,
        identity=row.identity,
        description=description,
        items=items,
        segments=segments,
        created_at=created_at,
        metadata_fields=metadata_fields(connection, row.pk),
    )


def metadata_fields(connection: sqlite3.Connection, collection: int) -> list[str]:
    """Names of the fields that items of the collection have, sorted; hops over the index, one step a field."""
    rows = connection.execute(
        "WITH RECURSIVE names(field) AS ("
        " SELECT MIN(field) FROM facts WHERE collection = ?1"
        " UNION ALL SELECT (SELECT MIN(field) FROM facts WHERE collection = ?1 AND field > names.field)"
        " FROM names WHERE names.field IS NOT NULL"
        ") SELECT field FROM names WHERE field IS NOT NULL",
        (collection,),
    )
    return [name for (name,) in rows]


def has_field(connection: sqlite3.Connection, collection: int, field: str) -> bool:
    """Whether any item of the collection has the metadata field."""
    sql = "SELECT EXISTS (SELECT 1 FROM facts WHERE collection = ? AND field = ?)"
    return bool(connection.execute(sql, (collection, field)).fetchone()[0])


def insert_collection(connection: sqlite3.Connection, name: str, dim: int, identity: str, description: str) -> None:
    connection.execute(
        "INSERT INTO collections (name, dim, identity, description, created_at) VALUES (?, ?, ?, ?, ?)",
        (name, dim, identity, description, now()),
    )


def describe_collection(connection: sqlite3.Connection, collection: int, description: str) -> None:
    connection.execute("UPDATE collections SET description = ? WHERE pk = ?", (description, collection))


def remove_collection(connection: sqlite3.Connection, collection: int) -> list[str]:
    """Delete it with all it holds; returns the hashes of media that may have lost their last item."""
    media = connection.execute(
        "SELECT DISTINCT media_sha256 FROM items WHERE collection = ? AND media_sha256 IS NOT NULL", (collection,)
    ).fetchall()
    connection.execute("DELETE FROM collections WHERE pk = ?", (collection,))
    return [sha256 for (sha256,) in media]


def item_key(connection: sqlite3.Connection, collection: CollectionRow, item_id: str) -> tuple[int, str | None]:
    """An item's key and the hash of its media. Raises ItemNotFound."""
    sql = "SELECT pk, media_sha256 FROM items WHERE collection = ? AND id = ?"
    row = connection.execute(sql, (collection.pk, item_id)).fetchone() if is_item_id(item_id) else None
    if row is None and is_item_id(item_id) and not item_id.isascii():
        # Ids of files from Macs, stored before ids were composed.
        row = connection.execute(sql, (collection.pk, unicodedata.normalize("NFD", item_id))).fetchone()
    if row is None:
        raise ItemNotFound(collection.name, item_id)
    return row[0], row[1]


def read_item(connection: sqlite3.Connection, collection: CollectionRow, item_id: str) -> Item:
    """Raises ItemNotFound."""
    pk, _ = item_key(connection, collection, item_id)
    return _item(connection.execute(f"SELECT {_ITEM} FROM items WHERE pk = ?", (pk,)).fetchone())  # noqa: S608


def read_items(connection: sqlite3.Connection, keys: Iterable[int]) -> dict[int, Item]:
    """Items by key."""
    sql = f"SELECT pk, {_ITEM} FROM items WHERE pk IN (SELECT value FROM json_each(?))"  # noqa: S608
    return {row[0]: _item(row[1:]) for row in connection.execute(sql, (json.dumps(list(keys)),))}


def items_named(connection: sqlite3.Connection, collection: CollectionRow, ids: Sequence[str]) -> dict[str, Item]:
    """Those of `ids` that exist, by id."""
    sql = f"SELECT {_ITEM} FROM items WHERE collection = ? AND id IN (SELECT value FROM json_each(?))"  # noqa: S608
    found = map(_item, connection.execute(sql, (collection.pk, json.dumps(list(ids)))))
    return {item.id: item for item in found}


def page_of_items(
    connection: sqlite3.Connection, collection: CollectionRow, after: str | None, limit: int, where: Filter | None
) -> list[Item]:
    """At most `limit` items by id, those after `after`, that pass the filter."""
    condition, params = to_sql(where, collection.pk) if where is not None else ("1", [])
    # The text spliced in is our own columns and the compiled filter, which holds names and values only as parameters.
    sql = f"SELECT {_ITEM} FROM items WHERE collection = ? AND id > ? AND ({condition}) ORDER BY id LIMIT ?"  # noqa: S608
    # Ids are never empty, so "" comes before them all.
    return [_item(row) for row in connection.execute(sql, [collection.pk, after or "", *params, limit])]


def content_hashes(
    connection: sqlite3.Connection, collection: CollectionRow, ids: Sequence[str] | None
) -> dict[str, str]:
    """Content hash by item id, of all items or of those of `ids` that exist."""
    sql = "SELECT id, content_sha256 FROM items WHERE collection = ?"
    if ids is None:
        return dict(connection.execute(sql, (collection.pk,)).fetchall())
    sql += " AND id IN (SELECT value FROM json_each(?))"
    return dict(connection.execute(sql, (collection.pk, json.dumps(list(ids)))).fetchall())


def write_item(
    connection: sqlite3.Connection, collection: CollectionRow, item: NewItem, media_sha256: str | None
) -> Written:
    """Insert or replace a checked item, whose vectors and metadata must be of the collection's kind."""
    old = connection.execute(
        "SELECT pk, media_sha256 FROM items WHERE collection = ? AND id = ?", (collection.pk, item.id)
    ).fetchone()
    removed = _clear(connection, old[0]) if old else []
    media_type = item.media.media_type if item.media and media_sha256 else None
    stamp = now()
    (pk,) = connection.execute(
        "INSERT INTO items (collection, id, metadata, duration_s, content_sha256, filename, media_sha256, media_type,"
        " segments, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (collection, id) DO UPDATE SET metadata = excluded.metadata, duration_s = excluded.duration_s,"
        " content_sha256 = excluded.content_sha256, filename = excluded.filename,"
        " media_sha256 = excluded.media_sha256, media_type = excluded.media_type, segments = excluded.segments,"
        " updated_at = excluded.updated_at RETURNING pk",
        (collection.pk, item.id, _dumps(item.metadata), item.duration_s, item.content_sha256, item.filename,
         media_sha256, media_type, len(item.segments), stamp, stamp),
    ).fetchone()  # fmt: skip
    added = insert_segments(connection, collection.pk, pk, item.segments)
    _insert_facts(connection, collection.pk, pk, item.metadata)
    _count(connection, collection.pk, items=0 if old else 1, segments=len(added) - len(removed))
    return Written(item=pk, created=old is None, old_media=old[1] if old else None, removed=removed, added=added)


def remove_item(
    connection: sqlite3.Connection, collection: CollectionRow, item_id: str
) -> tuple[int, list[int], str | None]:
    """Delete an item; returns its key, its segments' keys and the hash of its media. Raises ItemNotFound."""
    pk, media_sha256 = item_key(connection, collection, item_id)
    removed = _clear(connection, pk)
    connection.execute("DELETE FROM items WHERE pk = ?", (pk,))
    _count(connection, collection.pk, items=-1, segments=-len(removed))
    return pk, removed, media_sha256


def write_metadata(connection: sqlite3.Connection, collection: CollectionRow, item_id: str, metadata: Metadata) -> int:
    """Replace an item's metadata; returns its key. Raises ItemNotFound."""
    pk, _ = item_key(connection, collection, item_id)
    connection.execute("UPDATE items SET metadata = ?, updated_at = ? WHERE pk = ?", (_dumps(metadata), now(), pk))
    connection.execute("DELETE FROM facts WHERE item = ?", (pk,))
    _insert_facts(connection, collection.pk, pk, metadata)
    _count(connection, collection.pk, items=0, segments=0)
    return int(pk)


def media_in_use(connection: sqlite3.Connection, sha256: str) -> bool:
    """Whether any item of any collection refers to the media."""
    sql = "SELECT EXISTS (SELECT 1 FROM items WHERE media_sha256 = ?)"
    return bool(connection.execute(sql, (sha256,)).fetchone()[0])


def all_media(connection: sqlite3.Connection) -> set[str]:
    """Hashes of all media that items refer to."""
    rows = connection.execute("SELECT DISTINCT media_sha256 FROM items WHERE media_sha256 IS NOT NULL")
    return {sha256 for (sha256,) in rows}


def _clear(connection: sqlite3.Connection, item: int) -> list[int]:
    connection.execute("DELETE FROM facts WHERE item = ?", (item,))
    return remove_segments(connection, item)


def _insert_facts(connection: sqlite3.Connection, collection: int, item: int, metadata: Metadata) -> None:
    connection.executemany(
        "INSERT INTO facts (collection, field, shape, kind, value, item, position) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (collection, field, shape, kind, value, item, position)
            for field, shape, kind, value, position in facts_of(metadata)
        ],
    )


def _count(connection: sqlite3.Connection, collection: int, *, items: int, segments: int) -> None:
    connection.execute(
        "UPDATE collections SET items = items + ?, segments = segments + ?, changes = changes + 1 WHERE pk = ?",
        (items, segments, collection),
    )


def _dumps(metadata: Metadata) -> str:
    return json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _item(row: tuple[Any, ...]) -> Item:
    item_id, metadata, duration_s, sha256, filename, media_type, media, segments, created_at, updated_at = row
    return Item(
        id=item_id,
        metadata=json.loads(metadata),
        duration_s=duration_s,
        content_sha256=sha256,
        filename=filename,
        media_type=media_type,
        has_media=media is not None,
        segments=segments,
        created_at=created_at,
        updated_at=updated_at,
    )
