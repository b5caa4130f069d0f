"""How vectors become answers: similarity, zero-shot labels, match probability, percentile. Pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model_export.bundle import MatchMap

Floats = NDArray[np.float64]
Vector = NDArray[np.float32]

# Below this length a sum of unit vectors has no direction left that rounding did not make.
_NO_DIRECTION = 1e-6


def cosine(a: ArrayLike, b: ArrayLike) -> Floats:
    """Cosines of unit vectors, [n, D] x [k, D] -> [n, k] float64 within [-1, 1]; a single [D] counts as [1, D].

    Raises ValueError when the dimensions differ.
    """
    left, right = (np.atleast_2d(np.asarray(side, dtype=np.float64)) for side in (a, b))
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"vectors of {left.shape[1]} and {right.shape[1]} dimensions have no cosine")
    return np.clip(left @ right.T, -1.0, 1.0)


def classify(vectors: ArrayLike, label_vectors: ArrayLike, logit_scale: float) -> tuple[Floats, Floats]:
    """Zero-shot classification: probabilities and cosines, [n, D] x [k, D] -> ([n, k], [n, k]).

    Probabilities are softmax(logit_scale * cosine) over the labels, at the temperature that the model was trained
    with (Radford et al., 2021, section 3.1); each row sums to 1.
    """
    cosines = cosine(vectors, label_vectors)
    logits = logit_scale * cosines
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True), cosines


def match_probability(cosines: ArrayLike, calibration: MatchMap) -> Floats:
    """P(the caption describes the clip) = sigmoid(scale * cosine + bias), elementwise (Platt, 1999)."""
    logits = calibration.scale * np.asarray(cosines, dtype=np.float64) + calibration.bias
    # tanh neither overflows nor warns, at any logit.
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=np.float64)


def percentile(value: float, reference_cosines: ArrayLike) -> float:
    """Share, in percent, of the mismatched captions that fit the clip worse than this one; ties count half.

    50 is chance. Raises ValueError without a reference.
    """
    reference = np.asarray(reference_cosines, dtype=np.float64).ravel()
    if not len(reference):
        raise ValueError("no reference captions to compare with")
    below, equal = np.count_nonzero(reference < value), np.count_nonzero(reference == value)
    return float(100.0 * (below + 0.5 * equal) / len(reference))


def mismatch_percentile(value: float, table: Sequence[float]) -> float:
    """Share, in percent, of mismatched pairs whose cosine is below `value`, from their percentiles 0 to 100.

    Between two of them it is interpolated; where several are equal, their middle counts. 50 is chance.
    """
    cosines = np.asarray(table, dtype=np.float64)
    shares = np.linspace(0.0, 100.0, len(cosines))
    equal = shares[cosines == value]
    return float(equal.mean() if len(equal) else np.interp(value, cosines, shares))


def combine_query(parts: ArrayLike, weights: Sequence[float]) -> Vector:
    """One unit query from several, [p, D] with p weights -> [D]: the direction of the weighted sum.

    Weights of one sign only matter relative to each other. Raises ValueError when the counts differ, a weight is not
    finite, or the parts cancel out.
    """
    vectors = np.atleast_2d(np.asarray(parts, dtype=np.float64))
    factors = np.asarray(weights, dtype=np.float64)
    if len(factors) != len(vectors):
        raise ValueError(f"{len(vectors)} parts need as many weights, not {len(factors)}")
    if not np.isfinite(factors).all() or not factors.any():
        raise ValueError("weights must be finite and not all zero")
    factors = factors / np.abs(factors).max()
    total = factors @ vectors
    length = float(np.linalg.norm(total))
    if length < _NO_DIRECTION:
        raise ValueError("the parts of the query cancel out")
    unit: Vector = (total / length).astype(np.float32)
    return unit


def label_vector(prompts: ArrayLike) -> Vector:
    """A label's vector from its prompts' [p, D]: their mean direction (prompt ensembling, Radford et al., 2021)."""
    vectors = np.atleast_2d(np.asarray(prompts, dtype=np.float64))
    return combine_query(vectors, [1.0] * len(vectors))
