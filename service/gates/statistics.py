"""Whether scores fell, or only wobbled: the paired bootstrap, and what many such questions at once need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
SMOOTHING = 0.6
"""Width of the noise, in standard deviations times n^(-1/5). Simulated with 6 to 24 pairs, normal, heavy-tailed, skewed
and bimodal: as many false alarms as without, and up to half as many drops missed again; more would heed skew less."""
OUTLIER_FREEDOM = 5
LEAST_CHANGE, LEAST_WOBBLE = 1e-4, 0.005
"""Of a cosine: what rounding moves, and the wobble below which a fall is nothing to listen to."""
LEAST_MOVED = 10
"""Changed pairs that a wobble is told from."""
_CHUNK = 2_000_000
"""Numbers drawn at a time: bounds memory."""


@dataclass(frozen=True)
class PairedTest:
    """Mean of paired differences (now less baseline) with its confidence interval.

    `p` is the chance of a mean this low if the true mean were no lower than the tolerated drop; `least` is the lowest
    that so many resamples can tell, 0 where none were needed.
    """

    pairs: int
    mean: float
    low: float
    high: float
    p: float
    least: float = 0.0


def paired_bootstrap(
    differences: ArrayLike, *, confidence: float, tolerated: float = 0.0, resamples: int = 20_000, seed: int = 0
) -> PairedTest:
    """The smoothed studentised paired bootstrap of a mean difference.

    Differences are drawn anew with replacement; each resample's mean is measured in its own standard errors (Efron and
    Tibshirani, 1993, chapter 12.5). That keeps its promise on ten clips, where the plain percentile bootstrap is too
    eager. A little noise on what is drawn (Silverman and Young, 1987) keeps resamples that drew nearly one value over
    and over from hiding a true drop. `low` to `high` is two-sided at `confidence`; `p` is one-sided, for "the mean fell
    by more than `tolerated`". The same seed gives the same answer.

    Raises ValueError for fewer than two differences, or ones that are not finite.
    """
    values = np.asarray(differences, np.float64).ravel()
    if len(values) < 2:
        raise ValueError("a paired test needs at least two pairs")
    if not np.isfinite(values).all():
        raise ValueError("differences must be finite")
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
    if error < 1e-12:  # all pairs moved alike: there is no noise to weigh against
        return PairedTest(len(values), mean, mean, mean, 0.0 if mean < -tolerated - 1e-12 else 1.0)
    shifts = np.sort(_studentised(values, mean, resamples, seed))
    tail = (1 - confidence) / 2
    high_shift, low_shift = np.quantile(shifts, [tail, 1 - tail], method="inverted_cdf")
    observed = (mean + tolerated) / error
    below = int(np.searchsorted(shifts, observed, side="right"))
    return PairedTest(
        len(values),
        mean,
        float(mean - low_shift * error),
        float(mean - high_shift * error),
        (below + 1) / (resamples + 1),
        1 / (resamples + 1),
    )


def _studentised(values: Floats, mean: float, resamples: int, seed: int) -> Floats:
    """(mean* - mean) / standard error* of each smoothed resample."""
    rng = np.random.default_rng(seed)
    count = len(values)
    width = SMOOTHING * float(values.std(ddof=1)) * count**-0.2
    parts = []
    step = max(1, _CHUNK // count)
    for start in range(0, resamples, step):
        shape = (min(step, resamples - start), count)
        drawn = values[rng.integers(0, count, shape)] + width * rng.standard_normal(shape)
        parts.append((drawn.mean(axis=1) - mean) / (drawn.std(axis=1, ddof=1) / np.sqrt(count)))
    return np.concatenate(parts)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values raised so that all of them together keep the promise of one (Holm, 1979)."""
    return weighted_holm(p_values, [1.0] * len(p_values))


def weighted_holm(p_values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The same where questions have unlike parts of the chance of error (Holm, 1979, section 3).

    A question alone is held against its weight's part of the error; what is found hands its weight on to the rest. It
    asks nothing of how the questions depend on each other. Raises ValueError for weights that are not above 0.
    """
    if any(weight <= 0 for weight in weights):
        raise ValueError("weights must be above 0")
    order = sorted(range(len(p_values)), key=lambda i: p_values[i] / weights[i])
    adjusted = [0.0] * len(p_values)
    largest, left = 0.0, float(sum(weights))
    for i in order:
        largest = max(largest, min(1.0, left / weights[i] * p_values[i]))
        adjusted[i] = largest
        left -= weights[i]
    return adjusted


def outliers(changes: Sequence[float], *, tolerated: float = 0.0) -> list[float]:
    """For each clip the chance of a fall this far, by how the set's own pairs wobble; empty with too few to tell.

    The wobble is the median distance from the median change (Hampel, 1974) of the pairs that changed at all, so that
    neither a broken clip nor takes that were kept hide it. Its tail is Student's with OUTLIER_FREEDOM degrees, since
    differences of takes have heavier tails than the normal.
    """
    values = np.asarray(changes, np.float64)
    moved = values[np.abs(values) > LEAST_CHANGE]
    if len(moved) < LEAST_MOVED:
        return []
    middle = float(np.median(moved))
    wobble = max(1.4826 * float(np.median(np.abs(moved - middle))), LEAST_WOBBLE)
    # A set that rose as a whole must not make those fall that stayed.
    return [_tail(float(value - min(middle, 0.0) + tolerated) / wobble) for value in values]


def _tail(t: float) -> float:
    """P(T <= t) of Student's t with OUTLIER_FREEDOM = 5 degrees, by its closed form; 1/2 for a rise."""
    if t >= 0:
        return 0.5
    angle = math.atan2(-t, math.sqrt(OUTLIER_FREEDOM))
    cos = math.cos(angle)
    return max(0.0, 0.5 - (angle + math.sin(angle) * (cos + 2 / 3 * cos**3)) / math.pi)


def histogram(values: Sequence[float], edges: Sequence[float]) -> list[int]:
    """Counts between edges; values outside count in the outermost bins."""
    if not values:
        return [0] * (len(edges) - 1)
    clipped = np.clip(np.asarray(values, np.float64), edges[0], edges[-1])
    return [int(count) for count in np.histogram(clipped, np.asarray(edges, np.float64))[0]]
