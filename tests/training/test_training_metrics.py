"""Retrieval and classification measures against plain definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.metrics import bootstrap, classification, confusion, ranks, retrieval


@given(st.integers(2, 30), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_ranks_agree_with_sorting(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    similarity = rng.standard_normal((size, size)).astype(np.float32)
    owner = rng.permutation(size)
    expected = [int(np.flatnonzero(np.argsort(-row) == own)[0]) + 1 for row, own in zip(similarity, owner, strict=True)]
    assert ranks(similarity, owner).tolist() == expected


def test_a_constant_score_earns_nothing() -> None:
    figures = retrieval(np.ones((40, 40), np.float32), np.arange(40))
    assert figures["R@1"].value == figures["R@10"].value == figures["mAP@10"].value == 0
    assert figures["R@10"].chance == 25


def test_retrieval_by_hand() -> None:
    similarity = np.array([[0.9, 0.1, 0.0], [0.8, 0.7, 0.1], [0.5, 0.6, 0.4]], np.float32)
    figures = retrieval(similarity, np.arange(3))
    assert figures["R@1"].value == pytest.approx(33.33, abs=0.01)
    assert figures["mAP@10"].value == pytest.approx(100 * (1 + 1 / 2 + 1 / 3) / 3, abs=0.01)
    assert figures["R@1"].low <= figures["R@1"].value <= figures["R@1"].high


def test_uar_is_not_fooled_by_a_big_class() -> None:
    truth = ["a"] * 90 + ["b"] * 10
    figures = classification(["a"] * 100, truth, ["a", "b"])
    assert figures["WA"].value == 90 and figures["UAR"].value == 50
    assert confusion(["a"] * 100, truth, ["a", "b"]).tolist() == [[90, 0], [10, 0]]


def test_interval_narrows_with_size_and_nothing_is_refused() -> None:
    small, large = bootstrap(np.tile([0.0, 1.0], 10), 0.5), bootstrap(np.tile([0.0, 1.0], 1000), 0.5)
    assert large.high - large.low < small.high - small.low
    with pytest.raises(ValueError, match="nothing"):
        bootstrap(np.zeros(0), 0.5)
