"""How long audio is cut, run and pooled: pure functions, the same for export and service."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


def check_windows(*, window_s: float, hop_s: float, sample_rate: int = 16000) -> None:
    """Raise ValueError unless windows of `window_s` at each `hop_s` cover a clip."""
    if not 1 / sample_rate <= hop_s <= window_s < math.inf:
        raise ValueError(
            f"windows of {window_s:g} s every {hop_s:g} s do not cover a clip: hop_s is at least a sample and at most "
            "window_s, or audio would never be heard"
        )


def plan_windows(
    samples: int, *, sample_rate: int, window_s: float, hop_s: float, min_s: float
) -> list[tuple[int, int]]:
    """Cut a clip of `samples` into [start, stop) sample ranges that cover all of it, where `check_windows` has passed.

    A clip no longer than a window is one range. Otherwise a window starts each hop; the last one ends with the clip
    and starts early enough to hold at least `min_s`. Raises ValueError when there is nothing to cut.
    """
    if samples <= 0:
        raise ValueError("no samples")
    window, hop, shortest = (round(seconds * sample_rate) for seconds in (window_s, hop_s, min_s))
    ranges = []
    start = 0
    while start + window < samples:
        ranges.append((start, start + window))
        start += hop
    ranges.append((max(0, min(start, samples - shortest)), samples))
    return ranges


def pool_windows(vectors: Vectors) -> Vectors:
    """A clip's embedding from its windows': [n, D] -> [D], the mean brought back to unit L2.

    Raises ValueError when the mean has no direction (opposite windows), or there are none.
    """
    if len(vectors) == 0:
        raise ValueError("no windows")
    if len(vectors) == 1:
        only: Vectors = vectors[0]
        return only
    mean = vectors.astype(np.float64).mean(0)
    norm = float(np.linalg.norm(mean))
    if norm < 1e-6:
        raise ValueError("the windows' embeddings cancel out")
    pooled: Vectors = (mean / norm).astype(np.float32)
    return pooled


def plan_runs(lengths: Sequence[int], most: int, *, equal: bool) -> list[list[int]]:
    """Group inputs for a graph: places in `lengths`, similar lengths together, each place once.

    In each group count times longest stays within `most`, unless one input alone is longer. With `equal` a group holds
    one length only.
    """
    runs: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        fits = bool(runs) and (len(runs[-1]) + 1) * lengths[place] <= most
        if fits and (not equal or lengths[runs[-1][0]] == lengths[place]):
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs
