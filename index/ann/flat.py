"""FAISS as this room uses it: id selectors, one thread a search, and the flat index that is exact.

Searches may run side by side; the caller keeps them apart from changes (FAISS allows no change under a search).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from index.types import Ids, Vector

# FAISS's type stubs describe the C++ calls, not the ones on arrays that its Python layer puts in their place.
_faiss: Any = faiss

Scores = npt.NDArray[np.float32]

# A bitmap costs a bit an id up to the largest one, and answers in one load; past this many bits an id wanted,
# a hash set is smaller.
_BITS_PER_WANTED_ID = 512
_SMALL_BITMAP_BITS = 1 << 23


@dataclass(frozen=True)
class Selection:
    """Which ids a search may return: only `ids`, or with `inverted` all but `ids`."""

    ids: Ids
    inverted: bool = False

    @cached_property
    def selector(self) -> Any:
        """As FAISS wants it; made once, for it is the larger part of a search under a broad filter."""
        ids = np.ascontiguousarray(self.ids, dtype=np.int64)
        bits = int(ids.max()) + 1 if len(ids) else 0
        if bits <= max(_SMALL_BITMAP_BITS, _BITS_PER_WANTED_ID * len(ids)):
            flags = np.zeros(bits, dtype=bool)
            flags[ids] = True
            selector = _faiss.IDSelectorBitmap(np.packbits(flags, bitorder="little"))
        else:
            selector = _faiss.IDSelectorBatch(ids)
        return _faiss.IDSelectorNot(selector) if self.inverted else selector


@contextmanager
def faiss_threads(count: int) -> Iterator[None]:
    """Let FAISS calls of this thread use `count` threads; other threads keep their own number."""
    before = _faiss.omp_get_max_threads()
    _faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        _faiss.omp_set_num_threads(before)


class FlatIndex:
    """Exact search by inner product over unit vectors, that is by cosine."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._index = _faiss.IndexIDMap2(_faiss.IndexFlatIP(dim))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, ids: Ids, vectors: Vector) -> None:
        """Add vectors [n, D] under new ids [n]."""
        if len(ids):
            self._index.add_with_ids(np.ascontiguousarray(vectors, dtype=np.float32), ids)

    def remove(self, ids: Ids) -> None:
        """Remove the ids that are there."""
        if len(ids):
            self._index.remove_ids(_faiss.IDSelectorBatch(ids))

    def content(self) -> tuple[Ids, Vector]:
        """Copies of all ids [n] and vectors [n, D], in one order."""
        if not len(self):
            return np.empty(0, dtype=np.int64), np.empty((0, self._dim), dtype=np.float32)
        flat = _faiss.downcast_index(self._index.index)
        vectors = _faiss.rev_swig_ptr(flat.get_xb(), len(self) * self._dim).reshape(len(self), self._dim)
        return _faiss.vector_to_array(self._index.id_map), vectors.copy()

    def search(self, query: Vector, k: int, select: Selection | None = None) -> tuple[Scores, Ids]:
        """The up to `k` nearest of the selected vectors to query [D]: cosines and ids, best first."""
        # The selector is tested before the distance is computed: a filter can't leave fewer hits than there are.
        params = _faiss.SearchParameters(sel=select.selector) if select is not None else None
        # More threads gain one query nothing, and on busy cores their barrier costs it tens of milliseconds.
        with faiss_threads(1):
            scores, ids = self._index.search(np.ascontiguousarray(query[None], dtype=np.float32), k, params=params)
        found = ids[0] >= 0
        return scores[0][found], ids[0][found]
