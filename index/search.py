"""From nearest segments to best items: each item once, by its best segment, in an order that never varies."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from index.catalog import has_field, metadata_fields, read_items
from index.errors import UnknownField
from index.faiss_index import FlatIndex, Selection
from index.filters import Filter, filter_fields
from index.segments import SegmentRow, matching_segments, segment_rows, segments_of
from index.types import Hit, Vector

# Fetch this many segments a wanted item first, then grow by this factor until there are enough distinct items.
_SEGMENTS_PER_ITEM = 4
_GROWTH = 4


def check_fields(connection: sqlite3.Connection, collection: int, where: Filter) -> None:
    """Raise UnknownField if the filter names a field that no item of the collection has."""
    for field in filter_fields(where):
        if not has_field(connection, collection, field):
            raise UnknownField(field, metadata_fields(connection, collection))


def best_hits(
    connection: sqlite3.Connection,
    collection: int,
    index: FlatIndex,
    query: Vector,
    *,
    top_k: int,
    where: Filter | None,
    min_score: float | None,
    exclude_ids: Sequence[str],
) -> list[Hit]:
    """Up to `top_k` items by their best segment's cosine to query [D], ties by id.

    The connection's snapshot and the index must be of the same moment.

    Raises:
        UnknownField: the filter names a field that no item of the collection has.
    """
    select, selected = _selection(connection, collection, index, where, exclude_ids)
    k = min(selected, top_k * _SEGMENTS_PER_ITEM)
    ranked: list[tuple[float, SegmentRow]] = []
    while k:
        found, keys = index.search(query, k, select)
        # Rounding can carry a float32 dot product of unit vectors just past 1.
        scores = found.clip(-1.0, 1.0).tolist()
        rows = segment_rows(connection, keys.tolist())
        ranked = _best_of_each([(score, rows[key]) for score, key in zip(scores, keys.tolist(), strict=True)])
        # Enough only when the last one fetched is worse than the last one wanted: among equals the ids decide,
        # so all equals must be here. FAISS scores equal vectors equally, wherever they lie.
        enough = len(ranked) >= top_k and scores[-1] < ranked[top_k - 1][0]
        below = min_score is not None and scores[-1] < min_score
        if enough or below or k >= selected:
            break
        k = min(selected, k * _GROWTH)
    return _hits(connection, ranked, top_k, min_score)


def _selection(
    connection: sqlite3.Connection,
    collection: int,
    index: FlatIndex,
    where: Filter | None,
    exclude_ids: Sequence[str],
) -> tuple[Selection | None, int]:
    if where is not None:
        check_fields(connection, collection, where)
        ids = matching_segments(connection, collection, where, exclude_ids)
        return Selection(ids), len(ids)
    if exclude_ids:
        ids = segments_of(connection, collection, exclude_ids)
        return Selection(ids, inverted=True), len(index) - len(ids)
    return None, len(index)


def _best_of_each(found: list[tuple[float, SegmentRow]]) -> list[tuple[float, SegmentRow]]:
    best: dict[int, tuple[float, SegmentRow]] = {}
    for score, row in found:
        held = best.get(row.item)
        if held is None or (-score, row.start_s, row.end_s) < (-held[0], held[1].start_s, held[1].end_s):
            best[row.item] = (score, row)
    return sorted(best.values(), key=lambda one: -one[0])


def _hits(
    connection: sqlite3.Connection, ranked: list[tuple[float, SegmentRow]], top_k: int, min_score: float | None
) -> list[Hit]:
    if len(ranked) > top_k:
        last = ranked[top_k - 1][0]
        ranked = [one for one in ranked if one[0] >= last]
    if min_score is not None:
        ranked = [one for one in ranked if one[0] >= min_score]
    items = read_items(connection, [row.item for _, row in ranked])
    hits = [
        Hit(
            item_id=items[row.item].id,
            score=score,
            start_s=row.start_s,
            end_s=row.end_s,
            duration_s=items[row.item].duration_s,
            metadata=items[row.item].metadata,
            filename=items[row.item].filename,
            has_media=items[row.item].has_media,
        )
        for score, row in ranked
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.item_id))[:top_k]
