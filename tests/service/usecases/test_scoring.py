"""Scoring is arithmetic: checked against hand-computed values, definitions and invariants."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model_export.bundle import Calibration
from service.usecases.scoring import (
    classify,
    combine_query,
    cosine,
    label_vector,
    match_probability,
    mismatch_percentile,
    percentile,
)

EYE = np.eye(4, dtype=np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_cosine_of_known_angles() -> None:
    a = np.array([[1, 0], [0.6, 0.8]], np.float32)
    np.testing.assert_allclose(cosine(a, [[0, 1], [1, 0], [-1, 0]]), [[0, 1, -1], [0.8, 0.6, -0.6]], atol=1e-7)
    assert cosine(a[0], a[0]).shape == (1, 1)
    with pytest.raises(ValueError, match="2 and 3"):
        cosine(a, np.zeros((1, 3)))


@given(
    arrays(np.float32, (5, 8), elements=st.floats(-1, 1, width=32)).filter(
        lambda a: np.linalg.norm(a, axis=1).min() > 0.1
    )
)
def test_cosine_never_leaves_its_range(rows: np.ndarray) -> None:
    values = cosine(unit(rows), unit(rows))
    assert values.max() <= 1.0
    assert values.min() >= -1.0
    np.testing.assert_allclose(np.diag(values), 1.0, atol=1e-5)


def test_classify_is_softmax_at_the_models_temperature() -> None:
    probabilities, cosines = classify(EYE[:1], EYE[:2], math.log(3.0))
    np.testing.assert_allclose(cosines, [[1.0, 0.0]])
    np.testing.assert_allclose(probabilities, [[0.75, 0.25]])


def test_classify_survives_a_steep_temperature() -> None:
    probabilities, _ = classify(EYE, EYE, 1e6)
    np.testing.assert_array_equal(probabilities, np.eye(4))


def test_match_probability_is_the_calibrated_sigmoid() -> None:
    calibration = Calibration(scale=10.0, bias=-3.0)
    np.testing.assert_allclose(match_probability([0.3, 0.5], calibration), [0.5, 1 / (1 + math.exp(-2))])
    extremes = match_probability([-1.0, 1.0], Calibration(scale=1e6, bias=0.0))
    np.testing.assert_array_equal(extremes, [0.0, 1.0])


def test_percentile_counts_ties_half() -> None:
    assert percentile(0.5, [0.1, 0.2, 0.5, 0.9]) == 62.5
    assert percentile(1.0, [0.1, 0.2]) == 100.0
    assert percentile(-1.0, [0.1, 0.2]) == 0.0
    with pytest.raises(ValueError, match="reference"):
        percentile(0.0, [])


def test_combining_follows_the_weights() -> None:
    np.testing.assert_allclose(combine_query(EYE[:2], [3.0, 4.0]), [0.6, 0.8, 0, 0], atol=1e-7)
    np.testing.assert_allclose(combine_query(EYE[:2], [3e300, 4e300]), [0.6, 0.8, 0, 0], atol=1e-7)
    np.testing.assert_allclose(combine_query(EYE[:2], [3e-300, 4e-300]), [0.6, 0.8, 0, 0], atol=1e-7)
    np.testing.assert_array_equal(combine_query(EYE[2:3], [0.1]), EYE[2])
    assert combine_query(EYE, [1, 1, 1, 1]).dtype == np.float32


@pytest.mark.parametrize(
    ("parts", "weights", "reason"),
    [
        (EYE[:2], [1.0], "as many weights"),
        (EYE[:2], [0.0, 0.0], "not all zero"),
        (EYE[:2], [math.nan, 1.0], "finite"),
        (EYE[:2], [math.inf, 1.0], "finite"),
        (np.stack([EYE[0], -EYE[0]]), [1.0, 1.0], "cancel out"),
    ],
)
def test_combinations_without_a_direction(parts: np.ndarray, weights: list[float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        combine_query(parts, weights)


def test_a_label_is_the_mean_direction_of_its_prompts() -> None:
    np.testing.assert_allclose(label_vector(EYE[:2]), np.array([1, 1, 0, 0]) / math.sqrt(2), atol=1e-7)


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_percentile_table_agrees_with_counting(seed: int) -> None:
    cosines = np.random.default_rng(seed).normal(0.0, 0.2, 5000)
    table = np.percentile(cosines, np.arange(101)).tolist()
    for value in (-2.0, -0.1, 0.0, 0.25, 2.0):
        assert mismatch_percentile(value, table) == pytest.approx(100 * np.mean(cosines < value), abs=0.6)


def test_equal_percentiles_count_in_their_middle() -> None:
    table = [0.0] * 50 + [0.5] * 51
    assert mismatch_percentile(0.0, table) == 24.5
    assert mismatch_percentile(0.5, table) == 75.0
    assert (mismatch_percentile(-1.0, table), mismatch_percentile(1.0, table)) == (0.0, 100.0)
