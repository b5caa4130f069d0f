"""Vectors that a caller sends: checked against the collection and brought to unit length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from index.errors import DimensionMismatch
from service.core.problems import ProblemError

MIN_NORM = 1e-12


def unit_vector(values: Sequence[float], dim: int, field: str) -> NDArray[np.float32]:
    """[dim] float32 of unit length. Raises DimensionMismatch, or ProblemError where it has no direction."""
    if len(values) != dim:
        raise DimensionMismatch(dim, len(values), field)
    vector = np.asarray(values, np.float64)
    largest = float(np.abs(vector).max())
    if largest < MIN_NORM:
        raise ProblemError("invalid-request", f"{field}: the vector is zero", field=field, limit=MIN_NORM)
    vector = vector / largest  # so that squares of huge numbers stay finite
    return (vector / np.linalg.norm(vector)).astype(np.float32)
