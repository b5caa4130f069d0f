"""Which segments a search may return: filters and exclusions as id selections, remembered while nothing changes."""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from index.catalog import changes, has_field, metadata_fields
from index.collection_index import CollectionIndex
from index.errors import UnknownField
from index.faiss_index import Selection
from index.filters import Filter, filter_fields
from index.plan import IndexSettings
from index.segments import matching_segments, segments_of, vectors_of
from index.types import Vector


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
        # Selections by collection, its count of changes, filter and exclusions; a change makes them unreachable, and
        # they leave as the oldest.
        self._known: OrderedDict[tuple[int, int, str], Selection] = OrderedDict()
        self._size = 0

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
        key = (collection, changes(connection, collection), repr((where, list(exclude_ids))))
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
                return known
        select = Selection(matching_segments(connection, collection, where, exclude_ids))
        with self._lock:
            if key not in self._known:
                self._known[key] = select
                self._size += _size(select)
            while self._size > self._capacity and self._known:
                _, oldest = self._known.popitem(last=False)
                self._size -= _size(oldest)
        return select


def _size(select: Selection) -> int:
    """Bytes of the ids and of the selector made from them; a little for an empty one, so that it leaves too."""
    return 256 + select.ids.nbytes + (int(np.max(select.ids)) // 8 if len(select.ids) else 0)
