"""Train an approximate index on a collection's vectors, fill it, and measure the effort that its recall needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import faiss
import numpy as np

from index.ann.flat import Selection, faiss_threads
from index.ann.ivf import EffortPoint, FrozenFacts, FrozenIndex, empty_ivf
from index.ann.plan import PQ_TRAIN, TRAIN_PER_LIST, TRAIN_ROUNDS, Plan
from index.local.vector_source import Vectors
from index.types import Ids, Vector

_faiss: Any = faiss

QUERIES = 128
TOP = 10
# Candidates fetched a wanted item before re-ranking; what searches fetch too (see search.py).
SEGMENTS_PER_ITEM = 4
# Beyond this recall a larger effort is of no interest to anybody.
_ENOUGH = 0.999


class BuildStopped(Exception):  # noqa: N818
    """The store closes, or the collection is gone: the build is of no use any more."""


Check = Callable[[], None]
"""Called between steps; raises BuildStopped."""


def build(source: Vectors, plan: Plan, *, target_recall: float, threads: int, check: Check) -> FrozenIndex:
    """Build what the plan says over all vectors that the collection has.

    Raises:
        BuildStopped: from `check`, or there are no vectors any more.
        ValueError: the plan is to scan them whole. FAISS trains an index without lists on a null pointer.
    """
    if plan.lists < 1:
        raise ValueError(f"a plan of kind {plan.kind} has no lists to build")
    dice = np.random.default_rng(0)
    with faiss_threads(threads):
        keys = source.keys()
        index = _trained(source, plan, _sample(dice, keys, max(plan.lists * TRAIN_PER_LIST, PQ_TRAIN)), check)
        probe = Probe.of(source, _sample(dice, keys, QUERIES))
        filled = []
        for ids, vectors in source.scan():
            check()
            index.add_with_ids(vectors, ids)
            probe.see(ids, vectors)
            filled.append(ids)
        facts = FrozenFacts(plan.kind, len(keys), plan.rerank, 1, target_recall)
        frozen = FrozenIndex(index, facts, np.concatenate(filled) if filled else np.empty(0, dtype=np.int64))
        frozen.set_effort(tune(source, frozen, probe, target_recall, check))
    return frozen


def _trained(source: Vectors, plan: Plan, sample: Ids, check: Check) -> Any:
    _, vectors = source.fetch(sample)
    # Keys are sampled in order; k-means wants none.
    vectors = np.ascontiguousarray(np.random.default_rng(1).permutation(vectors))
    # FAISS does not survive being trained on nothing, and the collection may have shrunk since it was planned for.
    if not len(vectors):
        raise BuildStopped
    lists = min(plan.lists, len(vectors))
    seen = vectors[: lists * TRAIN_PER_LIST]
    centroids: Vector | None = None
    for _ in range(TRAIN_ROUNDS):
        check()
        means = _faiss.Kmeans(source.dim, lists, niter=1, spherical=True, seed=1, min_points_per_centroid=1)
        means.train(seen, init_centroids=centroids)
        centroids = means.centroids
    assert centroids is not None
    index = empty_ivf(plan.kind, centroids, plan.code_bytes)
    if plan.kind == "ivf-pq":
        index.pq.cp.niter = TRAIN_ROUNDS
        index.pq.cp.min_points_per_centroid = 1
    check()
    index.train(vectors[:PQ_TRAIN])
    return index


def _sample(dice: np.random.Generator, keys: Ids, count: int) -> Ids:
    return keys if len(keys) <= count else np.sort(dice.choice(keys, count, replace=False))


class Probe:
    """Sample vectors of the collection as queries, and their exact nearest neighbours, themselves left out."""

    def __init__(self, keys: Ids, vectors: Vector) -> None:
        self.keys = keys
        self.vectors = vectors
        self._scores = np.full((len(keys), TOP), -np.inf, dtype=np.float32)

    @classmethod
    def of(cls, source: Vectors, keys: Ids) -> Probe:
        return cls(*source.fetch(keys))

    def see(self, ids: Ids, vectors: Vector) -> None:
        """Take note of one batch; every vector of the collection must be shown once."""
        scores = self.vectors @ vectors.T
        scores[self.keys[:, None] == ids[None]] = -np.inf
        both = np.concatenate([self._scores, scores], axis=1)
        self._scores = -np.partition(-both, TOP - 1, axis=1)[:, :TOP]

    def floor(self) -> Vector:
        """[queries] cosine of each one's TOP-th nearest neighbour: what scores as much is one of the nearest."""
        return np.asarray(self._scores.min(axis=1))

    def wanted(self) -> int:
        """Neighbours there are to find for each query."""
        return int(np.isfinite(self._scores).sum(axis=1).min()) if len(self.keys) else 0


def measure(source: Vectors, frozen: FrozenIndex, probe: Probe, effort: int) -> EffortPoint:
    """Recall@10 and time of searches at an effort, exact re-ranking included."""
    floor, wanted = probe.floor(), probe.wanted()
    found, spent = 0, 0.0
    for key, query, least in zip(probe.keys, probe.vectors, floor, strict=True):
        itself = Selection(np.array([key]), inverted=True)
        started = time.perf_counter()
        k = TOP * SEGMENTS_PER_ITEM * frozen.facts.rerank
        _, ids = frozen.search(query, k, effort, itself.selector)
        _, vectors = source.fetch(ids)
        spent += time.perf_counter() - started
        # Rounding differs between a matrix product and this one: a hair below the floor counts.
        found += min(wanted, int((vectors @ query >= least - 1e-5).sum()))
    total = len(probe.keys) * wanted
    return EffortPoint(effort, found / total if total else 1.0, 1000 * spent / max(1, len(probe.keys)))


def tune(source: Vectors, frozen: FrozenIndex, probe: Probe, target_recall: float, check: Check) -> FrozenFacts:
    """Double the effort until nothing is gained, then choose the least that reaches the target."""
    curve: list[EffortPoint] = []
    effort = 1
    while True:
        check()
        curve.append(measure(source, frozen, probe, effort))
        if curve[-1].recall >= max(_ENOUGH, target_recall) or effort >= frozen.lists:
            break
        effort = min(effort * 2, frozen.lists)
    curve = _between(source, frozen, probe, curve, target_recall, check)
    chosen = next((point for point in curve if point.recall >= target_recall), curve[-1])
    return replace(frozen.facts, effort=chosen.effort, target_recall=target_recall, curve=tuple(curve))


def _between(
    source: Vectors, frozen: FrozenIndex, probe: Probe, curve: list[EffortPoint], target: float, check: Check
) -> list[EffortPoint]:
    """Halve the step in which the target is crossed, so that the effort is at most a third more than is needed."""
    crossing = next((i for i, point in enumerate(curve) if point.recall >= target), 0)
    if crossing == 0 or curve[crossing].effort - curve[crossing - 1].effort < 2:
        return curve
    check()
    middle = measure(source, frozen, probe, (curve[crossing].effort + curve[crossing - 1].effort) // 2)
    return [*curve[:crossing], middle, *curve[crossing:]]


def probe_of(source: Vectors, check: Check) -> Probe:
    """A fresh probe of a collection as it is; reads all its vectors."""
    probe = Probe.of(source, _sample(np.random.default_rng(2), source.keys(), QUERIES))
    for ids, vectors in source.scan():
        check()
        probe.see(ids, vectors)
    return probe
