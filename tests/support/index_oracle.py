"""What the index should do, said a second time as plainly as possible: dictionaries, loops and exact cosines."""

from __future__ import annotations

import hashlib
import operator
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from index.types import Hit, JsonValue, MediaBlob, NewItem, NewSegment, Vector

_ORDER = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def unit(seed: int, dim: int) -> Vector:
    """A unit vector [dim], the same for the same seed."""
    values = np.random.default_rng(seed).normal(size=dim)
    return (values / np.linalg.norm(values)).astype(np.float32)


def folder_in_memory() -> Path:
    """A folder for tests of thousands of commits, where there is one whose fsync costs nothing."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="index-test-", dir=memory if os.access(memory, os.W_OK) else None))


def clip(
    item_id: str,
    seeds: list[int],
    dim: int = 16,
    metadata: Mapping[str, JsonValue] | None = None,
    media: bytes | None = None,
) -> NewItem:
    """An item whose segments are 10 s long, every 5 s, with one vector a seed."""
    return NewItem(
        id=item_id,
        segments=[NewSegment(5.0 * i, 5.0 * i + 10.0, unit(seed, dim)) for i, seed in enumerate(seeds)],
        metadata=metadata or {},
        duration_s=5.0 * len(seeds) + 5.0,
        content_sha256=hashlib.sha256(f"{item_id}:{seeds}".encode()).hexdigest(),
        filename=f"{item_id}.wav",
        media=MediaBlob(media, "audio/wav") if media is not None else None,
    )


def holds(where: Mapping[str, Any], metadata: Mapping[str, JsonValue]) -> bool:
    """The filter language, evaluated on one item's metadata straight from the filter's JSON."""
    return all(_entry_holds(key, value, metadata) for key, value in where.items())


def _entry_holds(key: str, value: Any, metadata: Mapping[str, JsonValue]) -> bool:
    if key == "all":
        return all(holds(one, metadata) for one in value)
    if key == "any":
        return any(holds(one, metadata) for one in value)
    if key == "not":
        return not holds(value, metadata)
    if not isinstance(value, dict):
        value = {"in" if isinstance(value, list) else "eq": value}
    return all(_condition_holds(op, operand, key in metadata, metadata.get(key)) for op, operand in value.items())


def _condition_holds(op: str, operand: Any, present: bool, value: Any) -> bool:
    if op == "exists":
        return present is operand
    if not present:
        return False
    if op == "contains":
        return isinstance(value, list) and any(_equal(one, operand) for one in value)
    if op in ("eq", "in"):
        return any(_equal(value, one) for one in (operand if op == "in" else [operand]))
    if op in ("ne", "nin"):
        alike = [one for one in (operand if op == "nin" else [operand]) if _kind(one) == _kind(value)]
        return bool(alike) and not any(_equal(value, one) for one in alike)
    return _kind(value) == _kind(operand) and _ORDER[op](value, operand)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def _equal(left: Any, right: Any) -> bool:
    return _kind(left) == _kind(right) and left == right


def exact_scores(items: Mapping[str, NewItem], query: Vector) -> dict[str, float]:
    """Every item's best cosine to the query, in float64."""
    return {
        item_id: max(float(np.dot(one.vector.astype(np.float64), query.astype(np.float64))) for one in item.segments)
        for item_id, item in items.items()
    }


def check_hits(hits: list[Hit], candidates: Mapping[str, NewItem], query: Vector, top_k: int, tolerance: float) -> None:
    """Assert that the hits are the `top_k` best candidates, in order, each with its best segment and metadata."""
    exact = exact_scores(candidates, query)
    assert len(hits) == min(top_k, len(candidates))
    assert len({hit.item_id for hit in hits}) == len(hits)
    assert [(hit.item_id, hit.score) for hit in hits] == sorted(
        ((hit.item_id, hit.score) for hit in hits), key=lambda one: (-one[1], one[0])
    )
    for hit in hits:
        item = candidates[hit.item_id]
        assert abs(hit.score - exact[hit.item_id]) <= tolerance
        assert (hit.metadata, hit.duration_s, hit.filename) == (dict(item.metadata), item.duration_s, item.filename)
        at_place = [one for one in item.segments if (one.start_s, one.end_s) == (hit.start_s, hit.end_s)]
        assert any(abs(float(np.dot(one.vector, query)) - hit.score) <= tolerance for one in at_place)
    if hits:
        left_out = [score for item_id, score in exact.items() if item_id not in {hit.item_id for hit in hits}]
        assert all(score <= hits[-1].score + tolerance for score in left_out)
