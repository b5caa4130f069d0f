"""How it is spoken, without who speaks: the directions in which the model's words for styles differ.

A clip's embedding holds the speaker and the room beside the style, and those decide which clips are nearest to it. The
texts for "fast" and "slow" differ in rate alone: directions between such texts span a space in which a clip keeps its
style and loses most of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from service.style.claims import prompts
from service.style.lexicon import FAMILIES

Floats = NDArray[np.float64]
SPOKEN: Final = tuple(family for family in FAMILIES if family.name not in ("gender", "age", "emotion"))
"""Families that tell how, not who."""
DIMENSIONS: Final = 8
"""Of the space; measured on the example library: 6 to 12 do alike, fewer or the whole space do worse."""
_WHO: Final = "A person"


def style_texts() -> list[tuple[str, str, str]]:
    """(family, value, text) of every text that spans the space."""
    return [
        (family.name, value, text)
        for family in SPOKEN
        for value, texts in prompts(family, _WHO).items()
        for text in texts
    ]


def style_basis(texts: Sequence[tuple[str, str, str]], vectors: ArrayLike) -> Floats:
    """An orthonormal basis [DIMENSIONS, D] from the vectors [n, D] of `style_texts`."""
    rows = np.asarray(vectors, np.float64)
    by_value: dict[tuple[str, str], list[int]] = {}
    for row, (name, value, _) in enumerate(texts):
        by_value.setdefault((name, value), []).append(row)
    means = {key: _unit(rows[own].mean(axis=0)) for key, own in by_value.items()}
    directions = []
    for family in SPOKEN:
        own = [vector for (name, _), vector in means.items() if name == family.name]
        centre = np.mean(own, axis=0)
        directions += [vector - centre for vector in own]
    return np.asarray(np.linalg.svd(np.stack(directions), full_matrices=False)[2][:DIMENSIONS])


def in_style(vector: ArrayLike, basis: Floats) -> NDArray[np.float32]:
    """A vector [D] with only its style left, unit. Raises ValueError when nothing is left."""
    left = np.asarray(vector, np.float64) @ basis.T @ basis
    if np.linalg.norm(left) < 1e-6:
        raise ValueError("the clip has no style that the model has words for")
    return np.asarray(_unit(left), np.float32)


def _unit(vector: Floats) -> Floats:
    return np.asarray(vector / np.linalg.norm(vector))
