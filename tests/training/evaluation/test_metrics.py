"""Retrieval and classification measures against plain definitions."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.calibrate import calibration_error, reliability
from training.evaluation.metrics import (
    bootstrap,
    chance_of_hit,
    chance_of_reciprocal_rank,
    classification,
    confusion,
    correlation,
    pearson,
    ranks,
    retrieval,
)
from training.evaluation.resampling import Draws, centred_interval, interval


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


def test_what_compares_with_nothing_earns_nothing() -> None:
    similarity = np.eye(3, dtype=np.float32)
    similarity[1] = np.nan
    assert ranks(similarity, np.arange(3)).tolist() == [1, 3, 1]
    assert ranks(similarity.T, np.arange(3)).tolist() == [2, 3, 2]


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


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(2, 12))
@settings(max_examples=80, deadline=None)
def test_ranks_of_several_positives_agree_with_brute_force(seed: int, queries: int, gallery: int) -> None:
    rng = np.random.default_rng(seed)
    similarity = rng.integers(0, 4, (queries, gallery)).astype(np.float32)  # coarse, so that there are ties
    mask = rng.random((queries, gallery)) < 0.4
    mask[np.arange(queries), rng.integers(0, gallery, queries)] = True
    expected = []
    for row, own in zip(similarity, mask, strict=True):
        # The worst order that ties allow: what is wrong comes before what is right.
        order = sorted(range(gallery), key=lambda g: (-row[g], own[g]))
        expected.append(1 + next(place for place, g in enumerate(order) if own[g]))
    # Positives before the first one found are none, so only wrong ones are counted above it.
    assert ranks(similarity, mask).tolist() == expected


def test_a_query_without_a_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        ranks(np.ones((1, 3), np.float32), np.zeros((1, 3), bool))


@pytest.mark.parametrize(("gallery", "positives"), [(2, 1), (4, 2), (5, 1), (6, 3), (6, 6)])
def test_chance_is_that_of_random_orders(gallery: int, positives: int) -> None:
    first = [
        1 + next(place for place, item in enumerate(order) if item < positives)
        for order in itertools.permutations(range(gallery))
    ]
    for k in (1, 2, 5, 10):
        assert chance_of_hit(gallery, positives, k) == pytest.approx(np.mean([rank <= k for rank in first]))
    assert chance_of_reciprocal_rank(gallery, positives) == pytest.approx(np.mean([1 / rank for rank in first]))


def test_reciprocal_rank_is_nothing_past_ten() -> None:
    similarity = -np.arange(20, dtype=np.float32)[None].repeat(2, 0)
    figures = retrieval(similarity, np.array([9, 10]))
    assert figures["mAP@10"].value == 5.0  # 1/10 and 0
    assert (figures["R@5"].value, figures["R@10"].value) == (0, 50)
    assert chance_of_reciprocal_rank(20, 1) == pytest.approx(sum(1 / k for k in range(1, 11)) / 20)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(1, 5)), min_size=3, max_size=40), st.floats(0.1, 9))
@settings(max_examples=60, deadline=None)
def test_pearson_agrees_with_its_definition(pairs: list[tuple[float, float]], scale: float) -> None:
    a, b = np.array(pairs).T
    found = pearson(a, b)
    if a.std() > 1e-3 and b.std() > 1e-3:
        assert found == pytest.approx(float(np.corrcoef(a, b)[0, 1]), abs=1e-6)
        assert pearson(scale * a + 3, b) == pytest.approx(found, abs=1e-6)
        assert pearson(a, -b) == pytest.approx(-found, abs=1e-6)
    assert -1.000001 <= found <= 1.000001


def test_correlation_by_hand() -> None:
    figures = correlation(np.array([0.1, 0.2, 0.3, 0.4]), np.array([1.0, 3.0, 2.0, 4.0]))
    assert figures["r"].value == 0.8 and figures["r"].chance == 0
    assert -1 <= figures["r"].low <= figures["r"].high <= 1
    assert pearson(np.full(5, 0.3), np.arange(5.0)) == 0
    with pytest.raises(ValueError, match="two pairs"):
        pearson(np.ones(1), np.ones(1))


def test_speakers_who_succeed_together_widen_the_interval() -> None:
    values = np.repeat([0.0, 1.0, 1.0, 0.0], 100)
    speakers = np.repeat(["a", "b", "c", "d"], 100).tolist()
    by_clip, by_speaker = Draws(400), Draws(400, speakers)
    clip, speaker = (interval(lambda index: float(values[index].mean()), draws) for draws in (by_clip, by_speaker))
    assert clip[0] == speaker[0] == 0.5
    assert speaker[2] - speaker[1] > 4 * (clip[2] - clip[1])
    assert all(
        set(np.unique(index // 100)) <= {0, 1, 2, 3} and len(index) == 400 for index in Draws(400, speakers, draws=3)
    )
    assert interval(lambda index: float(values[index].mean()), Draws(400, ["one"] * 400)) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="2 groups for 3"):
        Draws(3, ["a", "b"])


@given(st.integers(0, 10_000), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_calibration_error_agrees_with_brute_force(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    probability = rng.choice([0.0, 0.05, 0.1, 0.3, 0.55, 0.99, 1.0], size)
    truth = rng.integers(0, 2, size).astype(float)
    bins: dict[int, list[int]] = {}
    for i, p in enumerate(probability):
        bins.setdefault(min(int(p * 10), 9), []).append(i)
    expected = sum(
        len(own) / size * abs(np.mean([probability[i] for i in own]) - np.mean([truth[i] for i in own]))
        for own in bins.values()
    )
    assert calibration_error(probability, truth) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_by_hand() -> None:
    probability, truth = np.array([0.8, 0.8, 0.8, 0.8, 0.2]), np.array([1.0, 1.0, 1.0, 0.0, 0.0])
    assert calibration_error(probability, truth) == pytest.approx(0.8 * 0.05 + 0.2 * 0.2)
    assert reliability(probability, truth) == [(0.2, 0.0, 1), (0.8, 0.75, 4)]
    assert calibration_error(truth, truth) == 0


def test_a_perfect_calibration_has_an_interval_near_nothing() -> None:
    rng = np.random.default_rng(3)
    probability = rng.random(4000)
    truth = (rng.random(4000) < probability).astype(float)
    value, low, high = centred_interval(
        lambda index: calibration_error(probability[index], truth[index]), Draws(4000, draws=300)
    )
    assert 0 <= low <= value <= high < 0.04
