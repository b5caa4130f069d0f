"""One collection's vectors in memory: a frozen approximate index, an exact delta of what came since, and tombstones.

The caller keeps searches and changes apart. Changes are cheap: they touch the delta and a bitmap, never the frozen
index, which is replaced as a whole or merged into by whoever tends it (see maintenance.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from index.ann.flat import FlatIndex, Scores, Selection
from index.ann.ivf import FrozenIndex
from index.types import Ids, Vector

_faiss: Any = faiss


@dataclass(frozen=True)
class Found:
    """Candidates of a search.

    Attributes:
        scores: cosines, best first, if `exact`; approximate otherwise, and to be replaced by the catalog's.
        whole: all lists were probed, so that no effort would find others.
    """

    scores: Scores
    keys: Ids
    exact: bool
    whole: bool


class Tombstones:
    """Keys of the frozen index whose segments are gone: a bitmap that FAISS reads in place."""

    def __init__(self, frozen_keys: Ids) -> None:
        self.count = 0
        self._bits = np.zeros((int(frozen_keys[-1]) >> 3) + 1 if len(frozen_keys) else 1, dtype=np.uint8)

    def bury(self, keys: Ids) -> None:
        """Mark keys of the frozen index, each once."""
        np.bitwise_or.at(self._bits, keys >> 3, (1 << (keys & 7)).astype(np.uint8))
        self.count += len(keys)

    def grow(self, last_key: int) -> None:
        """Make room for keys that were merged in."""
        missing = (last_key >> 3) + 1 - len(self._bits)
        if missing > 0:
            self._bits = np.concatenate([self._bits, np.zeros(missing, dtype=np.uint8)])

    def selector(self) -> Any:
        """Everything that is not buried."""
        return _faiss.IDSelectorNot(_faiss.IDSelectorBitmap(self._bits))


class CollectionIndex:
    """The live vectors of one collection, searchable; keys are never used twice."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.frozen: FrozenIndex | None = None
        self._delta = FlatIndex(dim)
        self._delta_keys: set[int] = set()
        self._tombs = Tombstones(np.empty(0, dtype=np.int64))
        # Keys removed since `remember`, for a build that read the catalog before they were.
        self._removed: list[int] | None = None

    def __len__(self) -> int:
        return len(self._delta) + (len(self.frozen) if self.frozen else 0) - self._tombs.count

    @property
    def delta_size(self) -> int:
        """Vectors that are scanned whole."""
        return len(self._delta)

    @property
    def dead(self) -> int:
        """Deleted vectors that the frozen index still holds."""
        return self._tombs.count

    def add(self, ids: Ids, vectors: Vector) -> None:
        """Add vectors [n, D] under new ids [n]."""
        self._delta.add(ids, vectors)
        self._delta_keys.update(ids.tolist())

    def remove(self, ids: Ids) -> None:
        """Remove ids that are there."""
        if self._removed is not None:
            self._removed.extend(ids.tolist())
        fresh = np.array([key for key in ids.tolist() if key in self._delta_keys], dtype=np.int64)
        self._delta.remove(fresh)
        self._delta_keys.difference_update(fresh.tolist())
        if len(fresh) < len(ids):
            self._tombs.bury(np.setdiff1d(ids, fresh))

    def search(
        self, query: Vector, k: int, select: Selection | None = None, *, selected: int | None = None, effort: int = 0
    ) -> Found:
        """Candidates for the `k` nearest of the selected vectors to query [D], best first.

        Args:
            selected: how many vectors `select` leaves.
            effort: inverted lists to probe; 0 for what the index was tuned to.
        """
        scores, keys = self._delta.search(query, k, select)
        if self.frozen is None:
            return Found(scores, keys, exact=True, whole=True)
        wanted = k * self.frozen.facts.rerank
        lists = self.frozen.effort_for(len(self) if selected is None else selected, effort or None)
        far_scores, far_keys = self.frozen.search(query, wanted, lists, self._selector(select))
        return Found(
            np.concatenate([scores, far_scores]),
            np.concatenate([keys, far_keys]),
            exact=False,
            whole=lists >= self.frozen.lists,
        )

    def delta(self) -> tuple[Ids, Vector]:
        """Copies of the delta's keys [n] and vectors [n, D]."""
        return self._delta.content()

    def absorb(self, prepared: FrozenIndex) -> None:
        """Merge vectors that were in the delta into the frozen index; what was removed since becomes a tombstone."""
        assert self.frozen is not None
        moved = prepared.keys
        self.frozen.merge(prepared)
        self._tombs.grow(int(moved[-1]))
        self._tombs.bury(np.array([key for key in moved.tolist() if key not in self._delta_keys], dtype=np.int64))
        self._keep_in_delta(moved)

    def remember(self) -> None:
        """Take note of what is removed from now on; a build that begins after this can be put in place later."""
        self._removed = []

    def forget(self) -> None:
        """Take no more note: the build came to an end."""
        self._removed = None

    def removed(self) -> Ids | None:
        """Keys removed since `remember`; None if nobody took note."""
        return None if self._removed is None else np.array(self._removed, dtype=np.int64)

    def replace(self, frozen: FrozenIndex | None, gone: Ids) -> None:
        """Put another index in place of the frozen one; what it holds leaves the delta.

        Args:
            frozen: None for none; what the old one held is then the caller's to add.
            gone: keys that are not alive; those in `frozen` become tombstones.
        """
        self.frozen = frozen
        held = frozen.keys if frozen is not None else np.empty(0, dtype=np.int64)
        self._tombs = Tombstones(held)
        self._tombs.bury(gone[_among(gone, held)])
        self._keep_in_delta(held)
        self._removed = None

    def _keep_in_delta(self, moved: Ids) -> None:
        keys, vectors = self._delta.content()
        stay = ~_among(keys, moved)
        self._delta = FlatIndex(self.dim)
        self._delta.add(keys[stay], vectors[stay])
        self._delta_keys = set(keys[stay].tolist())

    def _selector(self, select: Selection | None) -> Any | None:
        if select is not None and not select.inverted:
            # What a filter selects was read from the catalog: it is alive.
            return select.selector
        parts = [self._tombs.selector()] if self._tombs.count else []
        parts += [select.selector] if select is not None else []
        if len(parts) == 2:
            return _faiss.IDSelectorAnd(*parts)
        return parts[0] if parts else None


def _among(keys: Ids, held: Ids) -> npt.NDArray[np.bool_]:
    """[n] whether each key is in `held`, which is sorted."""
    if not len(held):
        return np.zeros(len(keys), dtype=bool)
    place = np.minimum(np.searchsorted(held, keys), len(held) - 1)
    return np.asarray(held[place] == keys)
