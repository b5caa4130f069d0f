"""What judgements are worth: means and win rates with bootstrap intervals, agreement, and the judge's own bias.

Judgements of one clip are not independent, so every interval resamples clips, never single judgements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval, and from how many clips it is."""

    mean: float
    low: float
    high: float
    clips: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Comparison:
    """A against B from comparisons in both orders. Rates lie in 0..1, ties count half."""

    win_rate: Interval  # of A; the order is averaged out, so that a preference for a place cancels
    first_rate: Interval  # how often the first place won: 0.5 is a judge without a bias for a place
    consistent: Interval  # how often both orders named the same winner (or both a tie)
    ties: float


def bootstrap(values: Sequence[float] | Array, *, seed: int = 0, draws: int = DRAWS, level: float = 0.95) -> Interval:
    """Percentile bootstrap of the mean of one value a clip. Raises ValueError without any."""
    data = np.asarray(values, dtype=np.float64)
    if not len(data):
        raise ValueError("no clip was judged")
    # Resampling n clips and counting how often each distinct value is drawn are one and the same, and grades are few.
    known, counts = np.unique(data, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(data), counts / len(data), size=draws)
    means = drawn @ known / len(data)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(data.mean()), float(low), float(high), len(data))


def sign_flip_p(differences: Sequence[float] | Array, *, seed: int = 0, draws: int = 10_000) -> float:
    """Two-sided p of a mean difference of zero, by flipping the signs of clips' differences at random."""
    data = np.asarray(differences, dtype=np.float64)
    rng = np.random.default_rng(seed)
    flips = rng.choice([-1.0, 1.0], size=(draws, len(data)))
    seen = abs(data.mean())
    # The draw that was observed is one of the possible ones (Phipson and Smyth, 2010).
    return float((1 + (np.abs((flips * data).mean(axis=1)) >= seen - 1e-12).sum()) / (draws + 1))


def krippendorff_alpha(
    ratings: Sequence[Sequence[float]] | Array, level: Literal["nominal", "ordinal", "interval"] = "interval"
) -> float:
    """Agreement of repeated judgements beyond chance: [units, judgements], NaN where one is missing.

    1 is perfect, 0 is chance (Krippendorff, 2011). NaN where nothing varies or no unit has two judgements.
    """
    data = np.asarray(ratings, dtype=np.float64)
    data = data[(~np.isnan(data)).sum(axis=1) >= 2]
    if not data.size:
        return float("nan")
    values = np.unique(data[~np.isnan(data)])
    counts = np.stack([(data == value).sum(axis=1) for value in values], axis=1).astype(np.float64)  # [units, values]
    each = counts.sum(axis=1)
    coincidence = (counts / (each - 1)[:, None]).T @ counts
    coincidence -= np.diag((counts / (each - 1)[:, None]).sum(axis=0))
    total = coincidence.sum(axis=0)
    distance = _distances(values, total, level)
    expected = (np.outer(total, total) * distance).sum()
    if expected == 0:
        return float("nan")
    return float(1 - (total.sum() - 1) * (coincidence * distance).sum() / expected)


def exact_agreement(ratings: Sequence[Sequence[float]] | Array) -> float:
    """Share of pairs of judgements of one unit that are the same. NaN without any pair."""
    same = pairs = 0
    for row in np.asarray(ratings, dtype=np.float64):
        told = row[~np.isnan(row)]
        pairs += len(told) * (len(told) - 1) // 2
        same += sum(int(told[i] == told[j]) for i in range(len(told)) for j in range(i))
    return same / pairs if pairs else float("nan")


def compare(as_first: Array, as_second: Array, *, seed: int = 0) -> Comparison:
    """A against B: [clips, repeats] of A's outcome (1 won, 0.5 tie, 0 lost) when shown first, and when second.

    Raises ValueError without any clip.
    """
    by_clip = np.nanmean(np.concatenate([as_first, as_second], axis=1), axis=1)
    # The first place won: A where A was first, B where A was second. Ties favour no place.
    first = np.nanmean(np.concatenate([as_first, 1 - as_second], axis=1), axis=1)
    both = np.where(np.isnan(as_first) | np.isnan(as_second), np.nan, as_first == as_second)
    consistent = np.nanmean(both, axis=1)
    every = np.concatenate([as_first.ravel(), as_second.ravel()])
    return Comparison(
        bootstrap(by_clip, seed=seed),
        bootstrap(first, seed=seed),
        bootstrap(consistent[~np.isnan(consistent)], seed=seed),
        float((every[~np.isnan(every)] == 0.5).mean()),
    )


def _distances(values: Array, total: Array, level: str) -> Array:
    if level == "nominal":
        return np.asarray(1.0 - np.eye(len(values)))
    if level == "interval":
        return np.asarray((values[:, None] - values[None, :]) ** 2)
    ranks = np.cumsum(total) - total / 2
    return np.asarray((ranks[:, None] - ranks[None, :]) ** 2)
