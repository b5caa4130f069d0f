"""Which index a collection gets: a pure function of its size, its dimensions and the memory it may take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from index.ann.memory import memory_bytes

Kind = Literal["flat", "ivf-sq8", "ivf-pq"]
MIB = 1 << 20

# FAISS holds an id of 8 bytes beside each code, and we hold the sorted keys once more, to tell old from new.
_KEY_BYTES = 16
_FLOAT_BYTES = 4
# k-means sees this many vectors a centroid: more changes the centroids little and costs in proportion.
TRAIN_PER_LIST = 40
TRAIN_ROUNDS = 10
# A product quantiser needs enough vectors for its 256 centroids a part.
_LEAST_FOR_PQ = 2000
# Product quantisers train on at most this many vectors.
PQ_TRAIN = 65_536
# Multiply-adds a second and core that the FAISS builds of today reach on AVX2; only the forecast depends on it.
_FLOPS_A_CORE = 4e10


@dataclass(frozen=True)
class IndexSettings:
    """How a store plans and keeps its indexes.

    Attributes:
        memory_bytes: what all collections together may hold resident; 0 for half of the machine's or container's.
        flat_bytes: a collection whose vectors are no larger is scanned whole: exact, no build.
        delta_bytes: vectors added since the build are scanned whole, up to this size; then they go into the index.
        target_recall: recall@10 that a build tunes the search effort for.
        exact_ids: a filter that leaves no more segments than this is answered from the catalog, exactly.
        rerank: candidates ranked by the catalog's vectors a wanted segment; 0 for what the kind of index needs.
        regrow: the index is trained anew once it holds this many times the vectors it was trained for.
        dead_share: ... and once more than this share of it is of deleted segments.
        snapshot_share: a snapshot is written once this share of the collection is missing in the last one.
        build_threads: threads of a build; one leaves the others to searches.
        build_apart: build in a process of its own, which may crash or run out of memory without anybody noticing;
            without, in the thread that asks for it.
        build_niceness: how much such a process stands back for others, 0 to 19 as in nice(1).
        filter_cache_bytes: what remembered answers of filters may take.
        background: tend the indexes in a thread; without, only calls of `LocalStore.maintenance` do.
    """

    memory_bytes: int = 0
    flat_bytes: int = 64 * MIB
    delta_bytes: int = 16 * MIB
    target_recall: float = 0.95
    exact_ids: int = 2000
    rerank: int = 0
    regrow: float = 4.0
    dead_share: float = 0.25
    snapshot_share: float = 0.05
    build_threads: int = 1
    build_apart: bool = True
    build_niceness: int = 10
    filter_cache_bytes: int = 64 * MIB
    background: bool = True

    def budget(self) -> int:
        """Bytes that all collections together may hold resident."""
        return self.memory_bytes or memory_bytes() // 2


@dataclass(frozen=True)
class Plan:
    """What to build, and what it will cost.

    Attributes:
        lists: inverted lists (0 for flat).
        code_bytes: bytes a vector is kept in.
        rerank: candidates fetched a wanted segment, to be ranked by the catalog's exact vectors.
        resident_bytes, disk_bytes: of the index, and of its snapshot; the catalog is not counted.
        recall: expected recall@10; a build measures it and sets the effort for it.
        build_s: seconds to train and fill it.
    """

    kind: Kind
    vectors: int
    dim: int
    lists: int
    code_bytes: int
    rerank: int
    resident_bytes: int
    disk_bytes: int
    recall: float
    build_s: float
    reason: str


def make_plan(vectors: int, dim: int, settings: IndexSettings, budget: int | None = None) -> Plan:
    """Plan for a collection of `vectors` segments.

    Args:
        budget: bytes this collection may hold resident; default: all of the settings' budget.
    """
    budget = settings.budget() if budget is None else budget
    flat = vectors * dim * _FLOAT_BYTES
    if flat <= settings.flat_bytes:
        return _flat(vectors, dim, f"{mib(flat)} of vectors are scanned whole faster than an index is worth")
    sq8 = _ivf("ivf-sq8", vectors, dim, dim, settings, f"{mib(flat)} of vectors are too many to scan at every search")
    if sq8.resident_bytes <= budget:
        return sq8
    # Finer codes first: 4 dimensions a byte, then 8.
    for per_byte in (4, 8):
        parts = _divisor(dim, dim // per_byte)
        if vectors >= _LEAST_FOR_PQ and parts * per_byte * 2 >= dim:
            reason = f"8-bit codes need {mib(sq8.resident_bytes)}, the budget is {mib(budget)}"
            plan = _ivf("ivf-pq", vectors, dim, parts, settings, reason)
            if plan.resident_bytes <= budget or per_byte == 8:
                return plan
    return sq8


def _flat(vectors: int, dim: int, reason: str) -> Plan:
    size = vectors * (dim * _FLOAT_BYTES + _KEY_BYTES)
    return Plan("flat", vectors, dim, 0, dim * _FLOAT_BYTES, 1, size, 0, 1.0, 0.0, reason)


def _ivf(kind: Kind, vectors: int, dim: int, code_bytes: int, settings: IndexSettings, reason: str) -> Plan:
    lists = list_count(vectors)
    centroids = lists * dim * _FLOAT_BYTES
    codes = vectors * (code_bytes + _KEY_BYTES)
    trained = min(vectors, lists * TRAIN_PER_LIST)
    work = 2.0 * lists * dim * (trained * TRAIN_ROUNDS + vectors)
    if kind == "ivf-pq":
        work += 2.0 * 256 * dim * (min(vectors, PQ_TRAIN) * 25 + vectors)
    return Plan(
        kind=kind,
        vectors=vectors,
        dim=dim,
        lists=lists,
        code_bytes=code_bytes,
        rerank=settings.rerank or (1 if kind == "ivf-sq8" else 8),
        resident_bytes=codes + centroids + settings.delta_bytes,
        disk_bytes=vectors * (code_bytes + 8) + centroids,
        recall=settings.target_recall,
        build_s=work / (_FLOPS_A_CORE * settings.build_threads) + vectors * 1e-5,
        reason=reason,
    )


def list_count(vectors: int) -> int:
    """Inverted lists: about twice the root of the size, a power of two, and never so many that they run empty."""
    wanted: int = 2 ** round(math.log2(max(1.0, 2 * math.sqrt(vectors))))
    return max(1, min(wanted, vectors // TRAIN_PER_LIST))


def _divisor(number: int, at_most: int) -> int:
    """The largest divisor of `number` that is at most `at_most` (at least 1)."""
    return next(one for one in range(max(1, at_most), 0, -1) if number % one == 0)


def mib(size: float) -> str:
    """Bytes for people."""
    return f"{size / MIB:.0f} MiB" if size < 10 * 1024 * MIB else f"{size / 1024 / MIB:.1f} GiB"
