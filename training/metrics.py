"""The field's measures as pure functions: R@k, mAP@10, WA, UAR, each with a bootstrap interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Estimate:
    """A measure in percent, its 95 % bootstrap interval, and what chance would give."""

    value: float
    low: float
    high: float
    chance: float


def ranks(similarity: Scores, owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank (1 is best) of each query's one positive: similarity [Q, G], owner [Q] column of the positive.

    A tie counts against the query, so that a constant score can't look good.
    """
    positive = similarity[np.arange(len(owner)), owner]
    above: NDArray[np.int64] = (similarity >= positive[:, None]).sum(1)
    return above


def retrieval(similarity: Scores, owner: NDArray[np.int64], seed: int = 0) -> dict[str, Estimate]:
    """R@1, R@5, R@10 and mAP@10 (reciprocal rank, 0 past 10) for similarity [Q, G] with one positive a query."""
    found = ranks(similarity, owner)
    gallery = similarity.shape[1]
    result = {f"R@{k}": bootstrap((found <= k).astype(float), min(1.0, k / gallery), seed=seed) for k in (1, 5, 10)}
    chance = float(sum(1 / r for r in range(1, min(10, gallery) + 1)) / gallery)
    result["mAP@10"] = bootstrap(np.where(found <= 10, 1 / found, 0.0), chance, seed=seed)
    return result


def classification(
    predicted: Sequence[str], truth: Sequence[str], labels: Sequence[str], seed: int = 0
) -> dict[str, Estimate]:
    """WA (accuracy) and UAR (mean recall over the classes that occur)."""
    guess, real = np.array(predicted), np.array(truth)
    present = [label for label in labels if label in set(truth)]

    def mean_recall(index: NDArray[np.int64]) -> float:
        hit, of = guess[index] == real[index], real[index]
        recalls = [hit[of == label].mean() for label in present if (of == label).any()]
        return float(np.mean(recalls))

    chance = 1 / len(labels)
    return {
        "WA": bootstrap((guess == real).astype(float), chance, seed=seed),
        "UAR": bootstrap_statistic(mean_recall, len(real), chance, seed=seed),
    }


def confusion(predicted: Sequence[str], truth: Sequence[str], labels: Sequence[str]) -> NDArray[np.int64]:
    """Counts [true label, predicted label]."""
    place = {label: i for i, label in enumerate(labels)}
    table = np.zeros((len(labels), len(labels)), np.int64)
    for guess, real in zip(predicted, truth, strict=True):
        table[place[real], place[guess]] += 1
    return table


def bootstrap(values: NDArray[np.float64], chance: float, *, seed: int = 0, draws: int = 1000) -> Estimate:
    """Mean of per-query values with its percentile interval (Efron, 1979), in percent."""
    return bootstrap_statistic(lambda index: float(values[index].mean()), len(values), chance, seed=seed, draws=draws)


def bootstrap_statistic(
    statistic: Callable[[NDArray[np.int64]], float], size: int, chance: float, *, seed: int = 0, draws: int = 1000
) -> Estimate:
    """A statistic of resampled indices, in percent. Raises ValueError when there is nothing to resample."""
    if size == 0:
        raise ValueError("nothing to evaluate")
    rng = np.random.default_rng(seed)
    samples = [statistic(rng.integers(0, size, size)) for _ in range(draws)]
    low, high = np.percentile(samples, [2.5, 97.5])
    return Estimate(*(round(100 * float(x), 2) for x in (statistic(np.arange(size)), low, high, chance)))
