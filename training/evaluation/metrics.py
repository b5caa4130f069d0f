"""The field's measures as pure functions: R@k, mAP@10, WA, UAR, Pearson's r, calibration error, with intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from training.evaluation.resampling import Draws, interval

Scores = NDArray[np.float32]
Floats = NDArray[np.float64]
DEPTHS = (1, 5, 10)


@dataclass(frozen=True)
class Estimate:
    """A measure, its 95 % bootstrap interval, and what chance would give: in percent, a correlation from -1 to 1."""

    value: float
    low: float
    high: float
    chance: float


def ranks(similarity: Scores, positive: NDArray[np.int64] | NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rank (1 is best) of each query's best positive among what is not one, for similarity [Q, G].

    `positive` is the column of a query's one positive, int [Q], or which columns are its positives, bool [Q, G]. A tie
    with something else counts against the query, so that a constant score can't look good, and so does what compares
    with nothing (NaN); a tie with another positive doesn't. Raises ValueError when a query has no positive.
    """
    mask = positives(similarity, positive)
    if not mask.any(1).all():
        raise ValueError("a query without a positive has no rank")
    best = np.where(mask, similarity, -np.inf).max(1)
    above: NDArray[np.int64] = 1 + (~(similarity < best[:, None]) & ~mask).sum(1)
    return above


def positives(similarity: Scores, positive: NDArray[np.int64] | NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which columns are a query's positives, bool [Q, G], from either form that `ranks` takes."""
    if positive.ndim == 2:
        return positive.astype(bool)
    mask = np.zeros(similarity.shape, bool)
    mask[np.arange(len(positive)), positive] = True
    return mask


def retrieval(
    similarity: Scores,
    positive: NDArray[np.int64] | NDArray[np.bool_],
    seed: int = 0,
    *,
    groups: Sequence[str] | None = None,
) -> dict[str, Estimate]:
    """R@1, R@5, R@10 and mAP@10 (reciprocal rank, 0 past 10) for similarity [Q, G], `positive` as `ranks` takes it.

    With several positives the first one found counts. `groups` names what queries are resampled by.
    """
    found = ranks(similarity, positive)
    gallery, counts = similarity.shape[1], positives(similarity, positive).sum(1)
    draws = Draws(len(found), groups, seed=seed)
    result = {}
    for k in DEPTHS:
        chance = float(np.mean([chance_of_hit(gallery, int(m), k) for m in counts]))
        result[f"R@{k}"] = mean_estimate((found <= k).astype(float), chance, draws)
    chance = float(np.mean([chance_of_reciprocal_rank(gallery, int(m)) for m in counts]))
    result["mAP@10"] = mean_estimate(np.where(found <= 10, 1 / found, 0.0), chance, draws)
    return result


def chance_of_hit(gallery: int, positives: int, k: int) -> float:
    """That one of `positives` is among the first k of a random order of `gallery`."""
    if k >= gallery:
        return 1.0
    return 1.0 - comb(gallery - positives, k) / comb(gallery, k)


def chance_of_reciprocal_rank(gallery: int, positives: int) -> float:
    """Mean of the first positive's reciprocal rank (0 past 10) in a random order of `gallery`."""
    hits = [0.0] + [chance_of_hit(gallery, positives, k) for k in range(1, min(10, gallery) + 1)]
    return sum((hits[k] - hits[k - 1]) / k for k in range(1, len(hits)))


def classification(
    predicted: Sequence[str],
    truth: Sequence[str],
    labels: Sequence[str],
    seed: int = 0,
    *,
    groups: Sequence[str] | None = None,
) -> dict[str, Estimate]:
    """WA (accuracy) and UAR (mean recall over the classes that occur in `truth`)."""
    guess, real = np.array(predicted), np.array(truth)
    present = [label for label in labels if label in set(truth)]

    def mean_recall(index: NDArray[np.int64]) -> float:
        hit, of = guess[index] == real[index], real[index]
        recalls = [hit[of == label].mean() for label in present if (of == label).any()]
        return float(np.mean(recalls))

    chance = 1 / len(labels)
    draws = Draws(len(real), groups, seed=seed)
    return {
        "WA": mean_estimate((guess == real).astype(float), chance, draws),
        "UAR": estimate(mean_recall, chance, draws),
    }


def confusion(predicted: Sequence[str], truth: Sequence[str], labels: Sequence[str]) -> NDArray[np.int64]:
    """Counts [true label, predicted label]."""
    place = {label: i for i, label in enumerate(labels)}
    table = np.zeros((len(labels), len(labels)), np.int64)
    for guess, real in zip(predicted, truth, strict=True):
        table[place[real], place[guess]] += 1
    return table


def pearson(a: Floats, b: Floats) -> float:
    """Pearson's correlation of two samples, 0 when one of them doesn't vary. Raises ValueError below two pairs."""
    if len(a) < 2:
        raise ValueError("a correlation needs at least two pairs")
    left, right = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((left**2).sum() * (right**2).sum()))
    # What is left of a constant after subtracting its mean is rounding, not variation.
    floor = 1e-12 * len(a) * max(1e-300, float(np.abs(a).max()) * float(np.abs(b).max()))
    return float((left * right).sum() / scale) if scale > floor else 0.0


def correlation(
    cosines: Floats, ratings: Floats, seed: int = 0, *, groups: Sequence[str] | None = None
) -> dict[str, Estimate]:
    """Pearson's r of cosines with ratings, from -1 to 1."""
    draws = Draws(len(cosines), groups, seed=seed)
    return {"r": estimate(lambda index: pearson(cosines[index], ratings[index]), 0.0, draws, percent=False)}


def mean_estimate(values: Floats, chance: float, draws: Draws) -> Estimate:
    """Mean of per-query values, in percent."""
    return estimate(lambda index: float(values[index].mean()), chance, draws)


def estimate(
    statistic: Callable[[NDArray[np.int64]], float], chance: float, draws: Draws, *, percent: bool = True
) -> Estimate:
    """A statistic of indices with its interval, in percent unless told otherwise."""
    value, low, high = interval(statistic, draws)
    if percent:
        return Estimate(*(round(100 * x, 2) for x in (value, low, high, chance)))
    return Estimate(*(round(x, 4) for x in (value, low, high, chance)))


def bootstrap(values: Floats, chance: float, *, seed: int = 0) -> Estimate:
    """Mean of per-query values with its percentile interval, in percent. Raises ValueError when there are none."""
    return mean_estimate(values, chance, Draws(len(values), seed=seed))
