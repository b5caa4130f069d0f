"""An approximate index over most of a collection: FAISS inverted lists with scalar- or product-quantised codes.

It never changes under a search: it is built once, and `merge` (under the caller's lock) only moves ready codes in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np

from index.ann.flat import Scores, faiss_threads
from index.ann.plan import Kind
from index.types import Ids, Vector

_faiss: Any = faiss

# A search that must test most lists anyway tests them all: it is hardly dearer, and nothing selected is missed.
_NEARLY_ALL = 0.5
_RANGE_MARGIN = 0.2


@dataclass(frozen=True)
class EffortPoint:
    """What a measurement found: lists probed, recall@10 against exact search, milliseconds a search."""

    effort: int
    recall: float
    ms: float


@dataclass(frozen=True)
class FrozenFacts:
    """What an index must be told again when it is loaded.

    Attributes:
        trained_on: vectors of the collection when the lists were trained.
        rerank: candidates fetched a wanted segment.
        effort: lists that a search probes unless it says otherwise.
        target_recall: what the effort was chosen for.
        curve: the measurement it was chosen from.
    """

    kind: Kind
    trained_on: int
    rerank: int
    effort: int
    target_recall: float
    curve: tuple[EffortPoint, ...] = ()

    @property
    def recall(self) -> float | None:
        """Recall@10 measured at the effort in use, if it was."""
        return next((point.recall for point in self.curve if point.effort == self.effort), None)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Self:
        """Of what `dataclasses.asdict` made of one. Raises KeyError, TypeError."""
        return cls(**{**told, "curve": tuple(EffortPoint(**point) for point in told["curve"])})


class FrozenIndex:
    """Inverted lists over unit vectors; scores are approximate cosines, so the caller ranks again by exact ones."""

    def __init__(self, index: Any, facts: FrozenFacts, keys: Ids | None = None) -> None:
        """Take a trained FAISS IVF index; `keys` are the ids in it, read out of its lists if not given."""
        self._index = index
        self.facts = facts
        self.keys: Ids = np.sort(_ids_of(index) if keys is None else keys)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def dim(self) -> int:
        return int(self._index.d)

    @property
    def lists(self) -> int:
        return int(self._index.nlist)

    @property
    def code_bytes(self) -> int:
        return int(self._index.code_size)

    def set_effort(self, facts: FrozenFacts) -> None:
        """Take over what a new measurement found."""
        self.facts = replace(facts, kind=self.facts.kind, trained_on=self.facts.trained_on)

    def effort_for(self, selected: int, effort: int | None = None) -> int:
        """Lists to probe when `selected` of the vectors may be returned: fewer candidates a list need more lists."""
        base = min(max(1, effort or self.facts.effort), self.lists)
        if not selected:
            return base
        wanted = math.ceil(base * len(self) / min(selected, len(self)))
        return self.lists if wanted > self.lists * _NEARLY_ALL and wanted > base else wanted

    def search(self, query: Vector, k: int, effort: int, selector: Any | None = None) -> tuple[Scores, Ids]:
        """The up to `k` nearest that pass the selector, in the `effort` lists nearest to query [D]; best first."""
        # Effort and selector travel with the call: set on the index, they would change other threads' searches.
        kind = _faiss.IVFPQSearchParameters if self.facts.kind == "ivf-pq" else _faiss.SearchParametersIVF
        params = kind(nprobe=min(effort, self.lists), **({} if selector is None else {"sel": selector}))
        with faiss_threads(1):
            scores, ids = self._index.search(np.ascontiguousarray(query[None]), k, params=params)
        found = ids[0] >= 0
        return scores[0][found], ids[0][found]

    def prepare(self, ids: Ids, vectors: Vector) -> FrozenIndex:
        """New vectors [n, D] as an index of the same lists and codes, ready to merge. The slow part; needs no lock."""
        quantizer, dim, lists = self._index.quantizer, self.dim, self.lists
        metric = _faiss.METRIC_INNER_PRODUCT
        if self.facts.kind == "ivf-pq":
            parts, bits = self._index.pq.M, self._index.pq.nbits
            small = _faiss.IndexIVFPQ(quantizer, dim, lists, parts, bits, metric)
            small.pq = self._index.pq
        else:
            small = _faiss.IndexIVFScalarQuantizer(
                quantizer, dim, lists, self._index.sq.qtype, metric, self._index.by_residual
            )
            small.sq = self._index.sq
        small.is_trained = True
        small.add_with_ids(np.ascontiguousarray(vectors, dtype=np.float32), ids)
        return FrozenIndex(small, self.facts, ids)

    def merge(self, prepared: FrozenIndex) -> None:
        """Move the codes of `prepared` in, leaving it empty. The caller keeps searches out."""
        self._index.merge_from(prepared._index, 0)
        keys = np.concatenate([self.keys, prepared.keys])
        # Both parts are sorted and new keys come last: a stable sort only checks that.
        self.keys = np.sort(keys, kind="stable")

    def write(self, path: Path) -> None:
        """Write the lists to a file. Raises OSError."""
        try:
            _faiss.write_index(self._index, str(path))
        except RuntimeError as error:
            raise OSError(f"could not write {path.name}: {error}") from error

    @classmethod
    def read(cls, path: Path, facts: FrozenFacts) -> FrozenIndex:
        """Read a file that `write` made and nobody damaged. Raises ValueError if it is of another kind."""
        try:
            index = _faiss.read_index(str(path))
        except RuntimeError as error:
            raise ValueError(f"{path.name} is not a FAISS index: {error}") from error
        expected = _faiss.IndexIVFPQ if facts.kind == "ivf-pq" else _faiss.IndexIVFScalarQuantizer
        if not isinstance(index, expected):
            raise ValueError(f"{path.name} holds {type(index).__name__}, not {facts.kind}")
        return cls(index, facts)


def empty_ivf(kind: Kind, centroids: Vector, code_bytes: int) -> Any:
    """A FAISS index with these centroids [lists, D] whose codes are still to be trained."""
    lists, dim = centroids.shape
    quantizer = _faiss.IndexFlatIP(dim)
    quantizer.add(np.ascontiguousarray(centroids))
    metric = _faiss.METRIC_INNER_PRODUCT
    if kind == "ivf-pq":
        index = _faiss.IndexIVFPQ(quantizer, dim, lists, code_bytes, 8, metric)
    else:
        index = _faiss.IndexIVFScalarQuantizer(quantizer, dim, lists, _faiss.ScalarQuantizer.QT_8bit, metric, True)
        # Codes cover this much more than the range seen in training, for the vectors that come later.
        index.sq.rangestat_arg = _RANGE_MARGIN
    return index


def _ids_of(index: Any) -> Ids:
    lists = index.invlists
    sizes = [lists.list_size(number) for number in range(index.nlist)]
    parts = [
        _faiss.rev_swig_ptr(lists.get_ids(number), size).astype(np.int64) for number, size in enumerate(sizes) if size
    ]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
