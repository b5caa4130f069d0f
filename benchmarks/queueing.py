"""What waiting alone would make of latency: an encoder that costs nothing to reach, under the same arrivals."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import numpy as np

ARRIVALS: Final = 20_000


def ideal_p99(rate: float, *, single_s: float, peak: float, most: int, seed: int = 0) -> float:
    """The p99 of an ideal server, in times of a single request, for Poisson arrivals at `rate` a second.

    One worker takes whatever waits, up to `most` at a time, and never rests while something does (M/D/1 where `most` is
    1). One request takes `single_s`; each more in a batch as much as lets full batches reach `peak` requests a second.
    """
    each_s = max(0.0, (most / peak - single_s) / (most - 1)) if most > 1 else 0.0
    chance, due, arrivals = random.Random(seed), 0.0, []
    for _ in range(ARRIVALS):
        due += chance.expovariate(rate)
        arrivals.append(due)
    return float(np.percentile(_waits(arrivals, single_s, each_s, most), 99)) / single_s


def _waits(arrivals: Sequence[float], single_s: float, each_s: float, most: int) -> list[float]:
    waits: list[float] = []
    now, first = 0.0, 0
    while first < len(arrivals):
        now = max(now, arrivals[first])
        end = first + 1
        while end < len(arrivals) and end - first < most and arrivals[end] <= now:
            end += 1
        now += single_s + each_s * (end - first - 1)
        waits += [now - arrival for arrival in arrivals[first:end]]
        first = end
    return waits
