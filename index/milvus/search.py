"""Search in Milvus: from nearest segments to best items, as of one moment, in an order that never varies."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from index.filters import Filter
from index.milvus.connection import MAX_HITS, Link
from index.milvus.reads import Home, Pass, Reads, TooLateError
from index.milvus.rows import Row, hex_id, key, text_id, to_expression
from index.types import Hit, Vector

_PLACE = ("item", "owner", "ordinal", "txn", "made", "start_s", "end_s")
_KEYS = 500
# Fetch this many segments a wanted item first, then grow by this factor until there are enough distinct items.
_SEGMENTS_PER_ITEM = 4
_GROWTH = 4


class Search:
    """Searches of every collection."""

    def __init__(self, link: Link, reads: Reads) -> None:
        self._link, self._reads = link, reads

    def run(
        self,
        home: Home,
        query: Vector,
        *,
        top_k: int,
        where: Filter | None,
        min_score: float | None,
        exclude_ids: Sequence[str],
        effort: int | None,
        with_vectors: bool,
    ) -> list[Hit]:
        """As `index.backend.Store.search`, for a checked query [D]."""

        def found(read: Pass) -> list[Hit]:
            expression = "ordinal >= 0" if where is None else to_expression(where)
            excluded = {*map(hex_id, exclude_ids)}
            ranked, _ = self._link.together(
                lambda: self._ranked(home, read, query, top_k, expression, excluded, min_score, effort),
                lambda: self._reads.check_fields(home, read, where),
            )
            if len(ranked) > top_k:
                last = ranked[top_k - 1]["score"]
                ranked = [row for row in ranked if row["score"] >= last]
            ranked = [row for row in ranked if min_score is None or row["score"] >= min_score]
            # By id, and with what is shown only for those that are: metadata can be large.
            ranked = sorted(ranked, key=lambda row: (-row["score"], row["item"]))[:top_k]
            shown = self._unchanging(home, {key(row["item"], row["owner"], 0): row for row in ranked}, "info")
            hits = [_hit(row, json.loads(shown[key(row["item"], row["owner"], 0)])) for row in ranked]
            if not with_vectors:
                return hits
            keys = [key(row["item"], row["owner"], row["ordinal"]) for row in ranked]
            vectors = self._unchanging(home, keys, "vector")
            return [
                replace(hit, vector=np.asarray(vectors[one], np.float32)) for hit, one in zip(hits, keys, strict=True)
            ]

        return self._reads.at_once(home, found)

    def _ranked(
        self,
        home: Home,
        read: Pass,
        query: Vector,
        top_k: int,
        expression: str,
        excluded: set[str],
        min_score: float | None,
        effort: int | None,
    ) -> list[Row]:
        """Items by their best segment, at least the `top_k` best and all that equal the last of them."""
        ranked: list[Row] = []
        limit = min(MAX_HITS, top_k * _SEGMENTS_PER_ITEM)
        while True:
            sought = read.view.seeing(expression)
            if excluded:
                sought += f" and item not in {json.dumps(sorted(excluded))}"
            rows = [*read.meet(self._link.nearest(home.name, query, limit, sought, _PLACE, effort))]
            for row in rows:
                # Rounding can carry a float32 dot product of unit vectors just past 1.
                row["score"] = min(1.0, max(-1.0, row["score"]))
            scores = [row["score"] for row in rows]
            best = _best_of_each(rows)
            if len(rows) < limit or (min_score is not None and scores[-1] < min_score):
                return ranked + best
            if len(ranked) + len(best) >= top_k and scores[-1] < (ranked + best)[top_k - 1]["score"]:
                return ranked + best
            if limit < MAX_HITS:
                limit = min(MAX_HITS, limit * _GROWTH)
                continue
            # A few long clips fill all places: put those aside whose best segment is certain, and look past them.
            certain = [row for row in best if row["score"] > scores[-1]] or best
            ranked += certain
            excluded |= {row["item"] for row in certain}

    def _unchanging(self, home: Home, keys: Iterable[str], field: str) -> dict[str, Any]:
        """A field of rows by primary key. What a version's rows hold never changes: it may be read without a wait,
        unless it is too new for that. Raises TooLateError where a row is gone."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Any] = {}
        for start in range(0, len(wanted), _KEYS):
            for now in (False, True):
                part = [one for one in wanted[start : start + _KEYS] if one not in found]
                if part:
                    rows = self._link.find(home.name, f"pk in {json.dumps(part)}", ("pk", field), now=now)
                    found.update({row["pk"]: row[field] for row in rows})
        if len(found) < len(wanted):
            raise TooLateError
        return found


def _best_of_each(rows: Collection[Row]) -> list[Row]:
    newest: dict[str, tuple[int, int]] = {}
    for row in rows:
        newest[row["item"]] = max((row["made"], row["owner"]), newest.get(row["item"], (0, 0)))
    best: dict[str, Row] = {}
    for row in rows:
        held = best.get(row["item"])
        if (row["made"], row["owner"]) == newest[row["item"]] and (held is None or _rank(row) < _rank(held)):
            best[row["item"]] = row
    return sorted(best.values(), key=lambda row: -row["score"])


def _rank(row: Row) -> tuple[float, float, float]:
    return -row["score"], row["start_s"], row["end_s"]


def _hit(row: Row, info: dict[str, Any]) -> Hit:
    return Hit(
        item_id=text_id(row["item"]),
        score=row["score"],
        start_s=row["start_s"],
        end_s=row["end_s"],
        duration_s=info["duration_s"],
        metadata=info["metadata"],
        filename=info["filename"],
        has_media=info["media"] is not None,
    )
