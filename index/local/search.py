"""From nearest segments to best items: each item once, by its best segment, in an order that never varies."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from index.ann.collection_index import CollectionIndex
from index.ann.flat import Scores
from index.local.catalog import read_items
from index.local.filter_cache import Wanted
from index.local.segments import SegmentRow, segment_rows, segments_with_vectors, vectors_of
from index.types import Hit, Vector

# Fetch this many segments a wanted item first, then grow by this factor until there are enough distinct items.
_SEGMENTS_PER_ITEM = 4
_GROWTH = 4

Ranked = list[tuple[float, SegmentRow]]


def best_hits(
    connection: sqlite3.Connection,
    index: CollectionIndex,
    query: Vector,
    wanted: Wanted,
    *,
    top_k: int,
    min_score: float | None,
    effort: int = 0,
    with_vectors: bool = False,
) -> list[Hit]:
    """Up to `top_k` items by their best segment's cosine to query [D], ties by id.

    The connection's snapshot, the index and `wanted` must be of the same moment. `effort` 0: what was tuned.
    """
    if wanted.vectors is not None and wanted.select is not None:
        ranked = _among_few(connection, wanted.select.ids.tolist(), wanted.vectors, query, top_k)
    elif index.frozen is None:
        ranked = _exact(connection, index, query, wanted, top_k, min_score)
    else:
        ranked = _approximate(connection, index, query, wanted, top_k, min_score, effort)
    hits = _hits(connection, ranked, top_k, min_score)
    return _with_vectors(connection, hits, index.dim) if with_vectors else [hit for _, hit in hits]


def _exact(
    connection: sqlite3.Connection,
    index: CollectionIndex,
    query: Vector,
    wanted: Wanted,
    top_k: int,
    min_score: float | None,
) -> Ranked:
    ranked: Ranked = []
    k = min(wanted.count, top_k * _SEGMENTS_PER_ITEM)
    while k:
        found = index.search(query, k, wanted.select)
        # Rounding can carry a float32 dot product of unit vectors just past 1.
        scores, keys = found.scores.clip(-1.0, 1.0).tolist(), found.keys.tolist()
        ranked = _best_of_each(scores, keys, segment_rows(connection, keys))
        # Enough only when the last one fetched is worse than the last one wanted: among equals the ids decide,
        # so all equals must be here. FAISS scores equal vectors equally, wherever they lie.
        enough = len(ranked) >= top_k and scores[-1] < ranked[top_k - 1][0]
        below = min_score is not None and scores[-1] < min_score
        if enough or below or k >= wanted.count:
            break
        k = min(wanted.count, k * _GROWTH)
    return ranked


def _approximate(
    connection: sqlite3.Connection,
    index: CollectionIndex,
    query: Vector,
    wanted: Wanted,
    top_k: int,
    min_score: float | None,
    effort: int,
) -> Ranked:
    """Candidates by approximate codes, ranked by the catalog's exact vectors; more until there are enough items."""
    assert index.frozen is not None
    effort = effort or index.frozen.facts.effort
    ranked: Ranked = []
    k = min(wanted.count, top_k * _SEGMENTS_PER_ITEM)
    while k:
        found = index.search(query, k, wanted.select, selected=wanted.count, effort=effort)
        keys, rows, vectors = segments_with_vectors(connection, found.keys.tolist(), index.dim)
        scores = cosines(vectors, query).tolist()
        ranked = _best_of_each(scores, keys, rows)
        worst = min(scores, default=1.0)
        # As above: equals of the last one wanted must all be here. Equal vectors have equal codes.
        enough = len(ranked) >= top_k and worst < ranked[top_k - 1][0]
        below = min_score is not None and worst < min_score
        if enough or below or (k >= wanted.count and found.whole):
            break
        # Too few: the lists held no more of what is wanted, or a few long clips filled the places.
        if len(keys) < k:
            effort *= _GROWTH
        k = min(wanted.count, k * _GROWTH)
    return ranked


def _among_few(connection: sqlite3.Connection, keys: list[int], vectors: Vector, query: Vector, top_k: int) -> Ranked:
    """Compare all of few vectors; only those that can be among the best are looked up."""
    scores = cosines(vectors, query)
    order = np.argsort(-scores, kind="stable")
    taken = top_k * _SEGMENTS_PER_ITEM
    while True:
        chosen = order[:taken]
        near = [keys[i] for i in chosen.tolist()]
        ranked = _best_of_each(scores[chosen].tolist(), near, segment_rows(connection, near))
        if taken >= len(keys) or (len(ranked) >= top_k and scores[chosen[-1]] < ranked[top_k - 1][0]):
            return ranked
        taken *= _GROWTH


def cosines(vectors: Vector, query: Vector) -> Scores:
    """[n] of unit vectors [n, D] to query [D]. Row by row, so that equal vectors score equally wherever they stand."""
    # A matrix product would not do: its kernels add in another order at the edges.
    return np.asarray((vectors * query).sum(axis=1, dtype=np.float32).clip(-1.0, 1.0))


def _best_of_each(scores: Sequence[float], keys: Sequence[int], rows: dict[int, SegmentRow]) -> Ranked:
    best: dict[int, tuple[float, SegmentRow]] = {}
    for score, key in zip(scores, keys, strict=True):
        row = rows[key]
        held = best.get(row.item)
        if held is None or (-score, row.start_s, row.end_s) < (-held[0], held[1].start_s, held[1].end_s):
            best[row.item] = (score, row)
    return sorted(best.values(), key=lambda one: -one[0])


def _hits(connection: sqlite3.Connection, ranked: Ranked, top_k: int, min_score: float | None) -> list[tuple[int, Hit]]:
    """Hits in order, each with the key of its segment."""
    if len(ranked) > top_k:
        last = ranked[top_k - 1][0]
        ranked = [one for one in ranked if one[0] >= last]
    if min_score is not None:
        ranked = [one for one in ranked if one[0] >= min_score]
    items = read_items(connection, [row.item for _, row in ranked])
    hits = [
        (
            row.key,
            Hit(
                item_id=items[row.item].id,
                score=score,
                start_s=row.start_s,
                end_s=row.end_s,
                duration_s=items[row.item].duration_s,
                metadata=items[row.item].metadata,
                filename=items[row.item].filename,
                has_media=items[row.item].has_media,
            ),
        )
        for score, row in ranked
    ]
    return sorted(hits, key=lambda one: (-one[1].score, one[1].item_id))[:top_k]


def _with_vectors(connection: sqlite3.Connection, hits: Sequence[tuple[int, Hit]], dim: int) -> list[Hit]:
    keys, vectors = vectors_of(connection, np.array([key for key, _ in hits], np.int64), dim)
    row_of = {key: row for row, key in enumerate(keys.tolist())}
    return [replace(hit, vector=vectors[row_of[key]]) for key, hit in hits]
