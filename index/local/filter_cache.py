"""Which segments a search may return: filters and exclusions as id selections, remembered and kept up with changes."""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from index.ann.collection_index import CollectionIndex
from index.ann.flat import Selection
from index.ann.plan import IndexSettings
from index.errors import UnknownField
from index.filters import Filter, filter_fields
from index.local.catalog import changes, has_field, metadata_fields
from index.local.changelog import Change, ChangeLog, Touched
from index.local.segments import matching_segments, segments_of, segments_of_items, vectors_of
from index.types import Ids, Vector

# Asking anew costs what passes the filter; asking again of the touched items alone pays off while they are far fewer.
_FEW_TOUCHED = 64
_SHARE_TOUCHED = 8


@dataclass(frozen=True)
class Wanted:
    """What a search is for.

    Attributes:
        select: None for everything.
        count: segments it leaves.
        vectors: theirs, [count, D] in the order of `select.ids`, if they are so few that all are compared.
    """

    select: Selection | None
    count: int
    vectors: Vector | None = None


def check_fields(connection: sqlite3.Connection, collection: int, where: Filter) -> None:
    """Raise UnknownField if the filter names a field that no item of the collection has."""
    for field in filter_fields(where):
        if not has_field(connection, collection, field):
            raise UnknownField(field, metadata_fields(connection, collection))


class Matcher:
    """Answers filters from the catalog. Thread-safe."""

    def __init__(self, settings: IndexSettings) -> None:
        self._exact_ids = settings.exact_ids
        self._capacity = settings.filter_cache_bytes
        self._lock = threading.Lock()
        # By collection, filter and exclusions: the count of changes as of which the selection holds, and the selection.
        self._known: OrderedDict[tuple[int, str], tuple[int, Selection]] = OrderedDict()
        self._size = 0
        self._logs: dict[int, ChangeLog] = {}

    def note(self, collection: int, count: int, change: Change) -> None:
        """A commit left this count of changes; to be called before any search sees it."""
        with self._lock:
            self._logs.setdefault(collection, ChangeLog()).add(count, change)

    def forget(self, collection: int) -> None:
        """The collection was deleted; what is remembered of its filters leaves as the oldest."""
        with self._lock:
            self._logs.pop(collection, None)

    def wanted(
        self,
        connection: sqlite3.Connection,
        collection: int,
        index: CollectionIndex,
        where: Filter | None,
        exclude_ids: Sequence[str],
    ) -> Wanted:
        """What may be returned; the connection's snapshot and the index must be of the same moment.

        Raises:
            UnknownField: the filter names a field that no item of the collection has.
        """
        if where is not None:
            check_fields(connection, collection, where)
            select = self._matching(connection, collection, where, exclude_ids)
            few = len(select.ids) <= self._exact_ids and index.frozen is not None
            vectors = vectors_of(connection, select.ids, index.dim)[1] if few else None
            return Wanted(select, len(select.ids), vectors)
        if exclude_ids:
            ids = segments_of(connection, collection, exclude_ids)
            return Wanted(Selection(ids, inverted=True), len(index) - len(ids))
        return Wanted(None, len(index))

    def _matching(
        self, connection: sqlite3.Connection, collection: int, where: Filter, exclude_ids: Sequence[str]
    ) -> Selection:
        # Not the filter itself: to Python 1 equals True, to the filter language it does not.
        key = (collection, repr((where, list(exclude_ids))))
        count = changes(connection, collection)
        with self._lock:
            at, known = self._known.get(key, (-1, None))
            if known is not None and at == count:
                self._known.move_to_end(key)
                return known
            log = self._logs.get(collection)
            touched = log.between(at, count) if log is not None and known is not None else None
        if known is not None and touched is not None and _far_fewer(touched, known):
            select = _followed(connection, collection, where, exclude_ids, known, touched)
        else:
            select = Selection(matching_segments(connection, collection, where, exclude_ids))
        self._remember(key, count, select)
        return select

    def _remember(self, key: tuple[int, str], count: int, select: Selection) -> None:
        with self._lock:
            if key in self._known:
                self._size -= _size(self._known.pop(key)[1])
            self._known[key] = (count, select)
            self._size += _size(select)
            while self._size > self._capacity and self._known:
                _, (_, oldest) = self._known.popitem(last=False)
                self._size -= _size(oldest)


def _far_fewer(touched: Touched, known: Selection) -> bool:
    return len(touched.items) <= max(_FEW_TOUCHED, len(known.ids) // _SHARE_TOUCHED)


def _followed(
    connection: sqlite3.Connection,
    collection: int,
    where: Filter,
    exclude_ids: Sequence[str],
    known: Selection,
    touched: Touched,
) -> Selection:
    """An earlier answer brought up to now: the touched items' segments leave it, and those that pass come back."""
    items = list(touched.items)
    removed = np.array(list(touched.removed), dtype=np.int64)
    stay = _without(known.ids, np.concatenate([removed, segments_of_items(connection, items)]))
    passing = matching_segments(connection, collection, where, exclude_ids, among=items)
    return Selection(np.sort(np.concatenate([stay, passing]), kind="stable"))


def _without(ids: Ids, gone: Ids) -> Ids:
    """Sorted `ids` but for those in `gone`, which are few."""
    place = np.searchsorted(ids, gone)
    place, gone = place[place < len(ids)], gone[place < len(ids)]
    return np.delete(ids, place[ids[place] == gone])


def _size(select: Selection) -> int:
    """Bytes of the ids and of the selector made from them; a little for an empty one, so that it leaves too."""
    return 256 + select.ids.nbytes + (int(np.max(select.ids)) // 8 if len(select.ids) else 0)
