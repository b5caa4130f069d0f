"""Vectors as speech embeddings lie: clusters of unequal size on the sphere, each wide; and items made of them."""

from __future__ import annotations

import numpy as np

from index.ann.plan import IndexSettings
from index.types import NewItem, NewSegment, Vector

# Everything small, so that a few thousand vectors go through what millions would; and built in the tests' own process,
# which is quicker (tests/index/local/test_build_subprocess.py has the other).
SMALL = IndexSettings(flat_bytes=64_000, delta_bytes=32_000, exact_ids=20, background=False, build_apart=False)


def clustered(count: int, dim: int, seed: int = 0, clusters: int = 60) -> Vector:
    """[count, dim] unit vectors around centres drawn once for all seeds."""
    centres = np.random.default_rng(99).normal(size=(clusters, dim))
    dice = np.random.default_rng(seed)
    share = 1.0 / np.arange(1, clusters + 1)
    which = dice.choice(clusters, count, p=share / share.sum())
    vectors = centres[which] + 0.7 * dice.normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def items_of(vectors: Vector, first: int = 0) -> list[NewItem]:
    """An item a vector, named by its number, with fields that half, a twentieth and a thousandth of them share."""
    return [
        NewItem(
            id=f"{number:07}",
            segments=[NewSegment(0.0, 10.0, vector)],
            metadata={"half": number % 2, "twentieth": number % 20, "thousandth": number % 1000},
            duration_s=10.0,
            content_sha256=f"{number:064x}",
        )
        for number, vector in enumerate(vectors, first)
    ]
