"""A fair draw from a manifest of any length in one pass: the same clips every time, whatever order they come in."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

R = TypeVar("R", bound=Mapping[str, Any])


def draw_of(identifier: str, seed: int = 0) -> str:
    """The lot that an id draws."""
    return hashlib.sha256(f"{seed}|{identifier}".encode()).hexdigest()


def smallest(rows: Iterable[R], count: int, seed: int = 0) -> list[R]:
    """The `count` rows that draw the smallest lots, in that order. Memory holds no more than those."""
    lots = ((draw_of(str(row["id"]), seed), number, row) for number, row in enumerate(rows))
    return [row for _, _, row in heapq.nsmallest(count, lots, key=lambda lot: lot[:2])]
