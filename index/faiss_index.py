"""Vectors of one collection in FAISS: exact inner product, kept in memory as a cache of the catalog.

Searches may run side by side; the caller keeps them apart from changes (FAISS allows no change under a search).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from index.types import Ids, Vector

# FAISS's type stubs describe the C++ calls, not the ones on arrays that its Python layer puts in their place.
_faiss: Any = faiss

# A bitmap costs a bit an id up to the largest one, and answers in one load; past this many bits an id wanted,
# a hash set is smaller.
_BITS_PER_WANTED_ID = 512
_SMALL_BITMAP_BITS = 1 << 23


@dataclass(frozen=True)
class Selection:
    """Which ids a search may return: only `ids`, or with `inverted` all but `ids`."""

    ids: Ids
    inverted: bool = False


class FlatIndex:
    """Exact search by inner product over unit vectors, that is by cosine."""

    def __init__(self, dim: int) -> None:
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

    def search(self, query: Vector, k: int, select: Selection | None = None) -> tuple[npt.NDArray[np.float32], Ids]:
        """The up to `k` nearest of the selected vectors to query [D]: cosines and ids, best first."""
        # The selector is tested before the distance is computed: a filter can't leave fewer hits than there are.
        params = _parameters(select) if select is not None else None
        scores, ids = self._index.search(np.ascontiguousarray(query[None], dtype=np.float32), k, params=params)
        found = ids[0] >= 0
        return scores[0][found], ids[0][found]


def _parameters(select: Selection) -> Any:
    ids = np.ascontiguousarray(select.ids, dtype=np.int64)
    bits = int(ids.max()) + 1 if len(ids) else 0
    if bits <= max(_SMALL_BITMAP_BITS, _BITS_PER_WANTED_ID * len(ids)):
        flags = np.zeros(bits, dtype=bool)
        flags[ids] = True
        selector = _faiss.IDSelectorBitmap(np.packbits(flags, bitorder="little"))
    else:
        selector = _faiss.IDSelectorBatch(ids)
    return _faiss.SearchParameters(sel=_faiss.IDSelectorNot(selector) if select.inverted else selector)
