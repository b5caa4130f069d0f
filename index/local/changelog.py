"""Which items the last commits touched, so that what was derived from a collection can follow instead of start anew."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from index.local.catalog import Written
from index.types import NewItem, Vector

# Items and segments that are remembered a collection; past it, whoever lags behind starts anew.
_MOST = 1 << 16


@dataclass(frozen=True)
class Change:
    """What one commit did, by key: to which items, each once, and which segments it removed and added.

    `vectors` [n, D] are those of `added`; None where nothing was.
    """

    items: Sequence[int]
    removed: Sequence[int] = ()
    added: Sequence[int] = ()
    vectors: Vector | None = None

    @classmethod
    def of(cls, items: Sequence[NewItem], written: Sequence[Written]) -> Change:
        """What writing `items` did."""
        return cls(
            items=[one.item for one in written],
            removed=[key for one in written for key in one.removed],
            added=[key for one in written for key in one.added],
            vectors=np.array([one.vector for item in items for one in item.segments], dtype=np.float32),
        )


@dataclass(frozen=True)
class Touched:
    """What commits touched: keys of items that are there or were, and of segments that went."""

    items: Collection[int]
    removed: Collection[int]


@dataclass(frozen=True)
class _Note:
    before: int
    after: int
    items: Sequence[int]
    removed: Sequence[int]

    @property
    def size(self) -> int:
        return len(self.items) + len(self.removed)


class ChangeLog:
    """The last commits of one collection by its count of changes (`catalog.changes`). The caller has the lock."""

    def __init__(self) -> None:
        self._notes: deque[_Note] = deque()
        self._size = 0

    def add(self, count: int, change: Change) -> None:
        """A commit took the count to this, by one an item. A commit that was left out is noticed."""
        note = _Note(count - len(change.items), count, change.items, change.removed)
        if self._notes and self._notes[-1].after != note.before:
            self._notes.clear()
            self._size = 0
        self._notes.append(note)
        self._size += note.size
        while self._size > _MOST:
            self._size -= self._notes.popleft().size

    def between(self, before: int, after: int) -> Touched | None:
        """What the commits from one count to a later one touched; None if not all of them are known."""
        if not self._notes or self._notes[-1].after != after:
            return None
        items: set[int] = set()
        removed: set[int] = set()
        for note in reversed(self._notes):
            items.update(note.items)
            removed.update(note.removed)
            if note.before == before:
                return Touched(items, removed)
        return None
