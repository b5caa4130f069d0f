"""The vectors of the index benchmark: unequal clusters with few real degrees of freedom, as speech embeddings have.

A vector is a cluster's centre plus noise, both in a 96-dimensional latent space whose directions fade as 1/sqrt(i),
laid into 512 dimensions by one random matrix, plus a little noise in all 512, then brought to unit length. Cluster
sizes fall off as 1/rank. Queries are fresh draws of the same kind. Vectors of independent noise in 512 dimensions would
all be equally far from each other, which no collection of recordings is.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

DIM, LATENT, CLUSTERS, BLOCK = 512, 96, 2000, 10_000


def vectors(count: int, *, seed: int = 1) -> Iterator[np.ndarray]:
    """Blocks [at most 10000, 512] float32 of unit length, `count` rows in all; equal for equal seeds."""
    fixed = np.random.default_rng(0)
    spectrum = 1.0 / np.sqrt(np.arange(1, LATENT + 1))
    centres = fixed.normal(size=(CLUSTERS, LATENT)) * spectrum
    lift = fixed.normal(size=(LATENT, DIM)) / np.sqrt(DIM)
    share = 1.0 / np.arange(1, CLUSTERS + 1)
    dice = np.random.default_rng(seed)
    for start in range(0, count, BLOCK):
        rows = min(BLOCK, count - start)
        latent = centres[dice.choice(CLUSTERS, rows, p=share / share.sum())]
        latent = latent + 0.8 * spectrum * dice.normal(size=(rows, LATENT))
        block = (latent @ lift + 0.01 * dice.normal(size=(rows, DIM))).astype(np.float32)
        yield block / np.linalg.norm(block, axis=1, keepdims=True)


class Drawn:
    """The blocks of `vectors`, and what drawing them took: `cpu_s` seconds of processor time so far."""

    def __init__(self, count: int) -> None:
        self.count, self.cpu_s = count, 0.0

    def __iter__(self) -> Iterator[np.ndarray]:
        blocks = vectors(self.count)
        while True:
            began = cpu_s()
            block = next(blocks, None)
            self.cpu_s += cpu_s() - began
            if block is None:
                return
            yield block


def cpu_s() -> float:
    """Processor time so far of this process and of its children that have ended, seconds."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def queries() -> np.ndarray:
    """[200, 512] vectors of the same kind that are in no index."""
    return next(vectors(200, seed=2))


class Exact:
    """The ten nearest neighbours of queries [q, D], found by looking at everything; `see` every block once."""

    def __init__(self, queries: np.ndarray) -> None:
        self._queries = queries
        self._scores = np.full((len(queries), 10), -2.0, np.float32)
        self.ids = np.full((len(queries), 10), -1, np.int64)

    def see(self, numbers: np.ndarray, block: np.ndarray) -> None:
        """Rows `block` [n, D] are the vectors of `numbers` [n]."""
        scores = np.concatenate([self._scores, self._queries @ block.T], axis=1)
        numbers = np.broadcast_to(numbers, (len(self._queries), len(block)))
        ids = np.concatenate([self.ids, numbers], axis=1)
        best = np.argpartition(-scores, 9, axis=1)[:, :10]
        self._scores = np.take_along_axis(scores, best, 1)
        self.ids = np.take_along_axis(ids, best, 1)


def recall(found: list[list[int]], exact: np.ndarray) -> float:
    """Share of the exact ten that were found, over all queries."""
    return sum(len(set(one) & set(best.tolist())) for one, best in zip(found, exact, strict=True)) / exact.size


def timed(
    search: Callable[[np.ndarray], Any],
    asked: np.ndarray,
    exact: np.ndarray,
    clients: int,
    before: Callable[[], None] = lambda: None,
    ids: Callable[[Any], list[int]] = list,
) -> dict[str, float]:
    """What `search` takes for queries [q, D] with so many callers, and what share of the `exact` ids it finds.

    Not timed are a warm-up, `before`, and `ids`, which reads the ids off what a search gave.
    """

    def one(query: np.ndarray) -> tuple[tuple[float, float], list[int]]:
        before()
        begun, worked = time.perf_counter(), time.thread_time()
        found = search(query)
        spent = (time.perf_counter() - begun, time.thread_time() - worked)
        return spent, ids(found)

    for query in asked[:20]:
        one(query)
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        done = list(pool.map(one, asked))
    wall_s = time.perf_counter() - started
    times, worked = 1000 * np.array([spent for spent, _ in done]).T
    return {
        "recall@10": recall([found for _, found in done], exact),
        "cpu p50 ms": float(np.percentile(worked, 50)),
        "p50 ms": float(np.percentile(times, 50)),
        "p99 ms": float(np.percentile(times, 99)),
        "per s": len(done) / wall_s,
    }
