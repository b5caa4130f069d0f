"""Bootstrap intervals: what is drawn, clips or whole speakers, and what a statistic of the draws says."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]
DRAWS = 1000


class Draws:
    """Resamples of `size` things, with replacement; the same seed draws the same (Efron, 1979).

    With `groups` (one name a thing) whole groups are drawn: clips of one speaker succeed and fail together, so that
    drawing clips makes an interval too narrow for the question "and with other speakers?" (Davison and Hinkley, 1997,
    section 3.8). Raises ValueError when there is nothing to draw from.
    """

    def __init__(self, size: int, groups: Sequence[str] | None = None, *, seed: int = 0, draws: int = DRAWS) -> None:
        if size == 0:
            raise ValueError("nothing to evaluate")
        if groups is not None and len(groups) != size:
            raise ValueError(f"{len(groups)} groups for {size} things")
        self.size, self.seed, self.draws = size, seed, draws
        self.members: list[Index] | None = None
        if groups is not None:
            names, place = np.unique(np.array(groups), return_inverse=True)
            self.members = [np.flatnonzero(place == i) for i in range(len(names))]

    def __iter__(self) -> Iterator[Index]:
        rng = np.random.default_rng(self.seed)
        for _ in range(self.draws):
            if self.members is None:
                yield rng.integers(0, self.size, self.size)
            else:
                yield np.concatenate([self.members[i] for i in rng.integers(0, len(self.members), len(self.members))])


def interval(statistic: Callable[[Index], float], draws: Draws) -> tuple[float, float, float]:
    """A statistic of all indices, and its 95 % percentile interval."""
    samples = [statistic(index) for index in draws]
    low, high = np.percentile(samples, [2.5, 97.5])
    return statistic(np.arange(draws.size)), float(low), float(high)


def centred_interval(statistic: Callable[[Index], float], draws: Draws) -> tuple[float, float, float]:
    """The same for a statistic that is never below 0 and that resampling biases upwards, as a sum of absolute gaps.

    The draws' distribution is moved back by its bias: their mean against the value on all indices.
    """
    value = statistic(np.arange(draws.size))
    samples = np.array([statistic(index) for index in draws])
    low, high = np.percentile(samples - (samples.mean() - value), [2.5, 97.5])
    return value, max(0.0, float(low)), max(value, float(high))
