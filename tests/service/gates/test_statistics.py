"""The paired bootstrap keeps its promise: noise does not fail a build, and a small true drop does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.gates.statistics import histogram, holm, outliers, paired_bootstrap, weighted_holm

RESAMPLES = 2000


def p_of(differences: np.ndarray, **options: float) -> float:
    return paired_bootstrap(differences, confidence=0.95, resamples=RESAMPLES, **options).p  # type: ignore[arg-type]


@pytest.mark.parametrize("pairs", [5, 8, 20, 60])
def test_noise_is_taken_for_a_drop_as_often_as_stated(pairs: int) -> None:
    rng = np.random.default_rng(pairs)
    alarms = sum(p_of(rng.normal(0, 0.05, pairs), seed=run) <= 0.05 for run in range(400))
    # 20 are expected of 400; a binomial lies below 33 in 99.7 of 100 cases.
    assert alarms <= 33


def test_skewed_noise_stays_within_twice_the_promise() -> None:
    rng = np.random.default_rng(1)
    draws = (rng.exponential(1.0, (400, 12)) - 1.0) * -0.05
    assert sum(p_of(row) <= 0.05 for row in draws) <= 40


def test_a_small_true_drop_is_found() -> None:
    rng = np.random.default_rng(2)
    found = sum(p_of(rng.normal(-0.02, 0.03, 30)) <= 0.01 for _ in range(100))
    assert found >= 80


def test_a_drop_of_two_sizes_is_found_as_well_as_one_of_one_size() -> None:
    # Half of the clips fall far, half a little: resamples of one half alone have next to no spread.
    rng = np.random.default_rng(4)
    halves = [np.repeat([-5.0, -1.5], 6) + rng.normal(0, 0.2, 12) for _ in range(50)]
    assert sum(p_of(row) <= 0.001 for row in halves) >= 45


def test_the_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        test = paired_bootstrap(rng.normal(0.1, 1.0, 15), confidence=0.9, resamples=RESAMPLES)
        assert test.low <= test.mean <= test.high
        covered += test.low <= 0.1 <= test.high
    assert 165 <= covered <= 196


def test_a_tolerated_drop_is_no_drop() -> None:
    differences = np.full(10, -0.02) + np.linspace(-0.001, 0.001, 10)
    assert p_of(differences) < 0.01
    assert p_of(differences, tolerated=0.05) > 0.9


def test_pairs_that_move_alike_need_no_luck() -> None:
    assert paired_bootstrap([0.0] * 6, confidence=0.99).p == 1.0
    assert paired_bootstrap([-0.1] * 6, confidence=0.99).p == 0.0
    assert paired_bootstrap([-0.1] * 6, confidence=0.99, tolerated=0.1).p == 1.0
    assert paired_bootstrap([0.1] * 6, confidence=0.99).p == 1.0


def test_the_same_seed_gives_the_same_answer() -> None:
    values = np.random.default_rng(4).normal(0, 1, 9)
    assert paired_bootstrap(values, confidence=0.9, seed=5) == paired_bootstrap(values, confidence=0.9, seed=5)


@pytest.mark.parametrize("values", [[], [1.0], [0.1, float("nan")], [0.1, float("inf")]])
def test_what_cannot_be_tested_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"pairs|finite"):
        paired_bootstrap(values, confidence=0.99)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12))
@settings(max_examples=60, deadline=None)
def test_any_differences_have_an_answer(values: list[float]) -> None:
    test = paired_bootstrap(values, confidence=0.99, resamples=200)
    assert 0 <= test.p <= 1
    assert test.low <= test.mean + 1e-9
    assert test.high >= test.mean - 1e-9


def test_holm_raises_p_values_and_keeps_their_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


def test_histograms_lose_nobody() -> None:
    assert histogram([-5, 0.1, 0.5, 0.99, 7], [0, 0.5, 1]) == [2, 3]
    assert histogram([], [0, 0.5, 1]) == [0, 0]


def test_weights_keep_plain_questions_their_power() -> None:
    crossings = [0.5] * 98
    plain, _, *_ = weighted_holm([0.004, 0.9, *crossings], [0.5, 0.3, *[0.2 / 98] * 98])
    assert plain == pytest.approx(0.008)
    assert holm([0.004, 0.9, *crossings])[0] == pytest.approx(0.4)
    assert weighted_holm([0.03, 0.01], [1, 1]) == pytest.approx(holm([0.03, 0.01]))
    with pytest.raises(ValueError, match="above 0"):
        weighted_holm([0.1], [0])


def test_outliers_have_the_tail_of_students_t() -> None:
    from scipy import stats

    wobble = np.tile([-0.01, 0.01], 20) * np.linspace(0.5, 1.5, 40)
    found = outliers([*wobble, -0.1])
    scale = 1.4826 * float(np.median(np.abs([*wobble, -0.1] - np.median([*wobble, -0.1]))))
    middle = min(0.0, float(np.median([*wobble, -0.1])))
    assert found[-1] == pytest.approx(stats.t(5).cdf((-0.1 - middle) / scale), rel=1e-6)
    assert outliers([0.0] * 50) == [], "nothing moved, so nothing tells how far takes wobble"
