"""Hits that differ: maximal marginal relevance. Pure functions on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def diversify(relevance: ArrayLike, vectors: ArrayLike, count: int, diversity: float) -> list[int]:
    """Positions of up to `count` candidates, each chosen for its relevance and for its distance from those before it.

    Maximal marginal relevance (Carbonell and Goldstein, 1998) on `relevance` [n] and unit `vectors` [n, D]. Both
    relevance and similarity are spread over 0 to 1 within the candidates, since cosines of a text with clips lie in a
    narrower band than those of clips with clips. `diversity` 0 keeps the order of relevance, 1 ignores it after the
    first. Raises ValueError when the counts differ.
    """
    scores = np.asarray(relevance, np.float64)
    points = np.asarray(vectors, np.float64)
    if len(scores) != len(points):
        raise ValueError(f"{len(scores)} scores for {len(points)} vectors")
    if not len(scores):
        return []
    scores = _spread(scores)
    alike = points @ points.T
    others = ~np.eye(len(points), dtype=bool)
    if others.any():
        alike = (alike - alike[others].min()) / max(float(np.ptp(alike[others])), 1e-9)
    chosen = [int(np.argmax(scores))]
    nearest = alike[chosen[0]].copy()
    while len(chosen) < min(count, len(scores)):
        gain = (1 - diversity) * scores - diversity * nearest
        gain[chosen] = -np.inf
        chosen.append(int(np.argmax(gain)))
        nearest = np.maximum(nearest, alike[chosen[-1]])
    return chosen


def _spread(values: Floats) -> Floats:
    reach = float(np.ptp(values))
    return (values - values.min()) / reach if reach > 1e-12 else np.zeros_like(values)
