"""The judge's statistics on simulated judges whose bias is known: what cancels, what shows, what intervals cover."""

import math

import numpy as np
import pytest

from training.captions.judging.report import markdown, summarise
from training.captions.judging.statistics import (
    bootstrap,
    compare,
    exact_agreement,
    krippendorff_alpha,
    sign_flip_p,
)

NAN = math.nan
# Four observers, twelve units, some missing: the example of Krippendorff, "Computing Krippendorff's Alpha-Reliability"
# (2011), whose values are 0.743, 0.815 and 0.849.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_the_published_one(level, published: float) -> None:
    assert krippendorff_alpha(np.array(OBSERVERS).T, level) == pytest.approx(published, abs=5e-4)


def test_alpha_of_perfect_random_and_contrary_judges() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(1, 6, 400).astype(float)
    assert krippendorff_alpha(np.stack([truth, truth], axis=1)) == pytest.approx(1.0)
    assert krippendorff_alpha(rng.integers(1, 6, (4000, 2)).astype(float)) == pytest.approx(0, abs=0.05)
    assert krippendorff_alpha(np.stack([truth, 6 - truth], axis=1)) < -0.5
    assert math.isnan(krippendorff_alpha([[3.0, 3.0], [3.0, 3.0]]))
    assert math.isnan(krippendorff_alpha([[1.0, NAN], [2.0, NAN]]))
    # A judge that repeats itself with known noise: alpha is the share of variance that is the clips'.
    clips = rng.normal(0, 2, 5000)
    noisy = np.round(clips[:, None] + rng.normal(0, 1, (5000, 2)), 1)
    assert krippendorff_alpha(noisy) == pytest.approx(4 / 5, abs=0.02)
    assert exact_agreement([[1, 1, 2], [5, 5, NAN]]) == pytest.approx(2 / 4)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        grades = np.clip(np.round(rng.normal(3.6, 0.9, 60)), 1, 5)
        interval = bootstrap(grades, seed=trial, draws=400)
        hits += interval.low <= TRUE_MEAN <= interval.high
    assert 0.90 <= hits / 200 <= 0.99


def _true_mean() -> float:
    return float(np.clip(np.round(np.random.default_rng(9).normal(3.6, 0.9, 400_000)), 1, 5).mean())


TRUE_MEAN = _true_mean()


def test_a_shared_leniency_leaves_differences_alone_and_p_is_honest() -> None:
    rng = np.random.default_rng(2)
    difficulty, lenient = rng.normal(0, 1, 300), 0.8
    a = 3.4 + difficulty + lenient + rng.normal(0, 0.5, 300)
    b = 3.0 + difficulty + lenient + rng.normal(0, 0.5, 300)
    interval = bootstrap(a - b)
    assert interval.low < 0.4 < interval.high
    assert interval.high - interval.low < 0.3  # the clips' own difficulty, which both share, does not widen it
    assert sign_flip_p(a - b) < 0.001
    # No difference at all: p is uniform, so that one in twenty is under 0.05.
    null = [sign_flip_p(rng.normal(0, 1, 40), seed=i, draws=400) for i in range(200)]
    assert 0.01 <= np.mean(np.array(null) < 0.05) <= 0.1
    assert np.mean(null) == pytest.approx(0.5, abs=0.08)


def simulated(
    rng: np.random.Generator, clips: int, *, true_rate: float, place_bias: float, ties: float = 0.0, repeats: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """A judge that prefers A with `true_rate`, but looks at the place instead with `place_bias` (+ first, - second)."""

    def outcome(a_is_first: bool) -> np.ndarray:
        honest = (rng.random((clips, repeats)) < true_rate).astype(float)
        by_place = float(a_is_first) if place_bias > 0 else 1.0 - float(a_is_first)
        told = np.where(rng.random((clips, repeats)) < abs(place_bias), by_place, honest)
        return np.where(rng.random((clips, repeats)) < ties, 0.5, told)

    return outcome(True), outcome(False)


@pytest.mark.parametrize("place_bias", [-0.6, -0.2, 0.0, 0.3, 0.7])
def test_a_bias_for_a_place_cancels_and_is_reported(place_bias: float) -> None:
    rng = np.random.default_rng(3)
    found = compare(*simulated(rng, 2000, true_rate=0.7, place_bias=place_bias))
    # The swapped orders average to the honest share plus half of what the place decided.
    assert found.win_rate.mean == pytest.approx((1 - abs(place_bias)) * 0.7 + abs(place_bias) / 2, abs=0.03)
    assert found.first_rate.mean == pytest.approx(0.5 + place_bias / 2, abs=0.03)
    # Looked at in one order only, the same judge would name the wrong winner or inflate the right one.
    one_order = compare(*[simulated(rng, 2000, true_rate=0.7, place_bias=place_bias)[0]] * 2)
    if place_bias <= -0.6:
        assert one_order.win_rate.mean < 0.5 < found.win_rate.low


def test_equal_sets_under_a_strong_bias_stay_equal() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for trial in range(60):
        found = compare(*simulated(rng, 80, true_rate=0.5, place_bias=0.5), seed=trial)
        covered += found.win_rate.low <= 0.5 <= found.win_rate.high
        assert found.first_rate.low > 0.5
    assert covered / 60 >= 0.88


def test_consistency_and_ties() -> None:
    always_first = (np.ones((50, 1)), np.zeros((50, 1)))
    found = compare(*always_first)
    assert found.win_rate.mean == 0.5
    assert found.first_rate.mean == 1.0
    assert found.consistent.mean == 0.0
    sure = compare(np.ones((50, 1)), np.ones((50, 1)))
    assert sure.consistent.mean == 1.0
    assert sure.win_rate.mean == 1.0
    tied = compare(*simulated(np.random.default_rng(5), 3000, true_rate=0.9, place_bias=0.0, ties=0.4))
    assert tied.ties == pytest.approx(0.4, abs=0.02)
    assert tied.win_rate.mean == pytest.approx(0.6 * 0.9 + 0.4 * 0.5, abs=0.02)


def test_repeats_of_one_clip_are_not_many_clips() -> None:
    """Asking ten times about the same twenty clips narrows nothing: intervals resample clips."""
    rng = np.random.default_rng(6)
    clip_level = np.repeat(rng.integers(0, 2, (20, 1)).astype(float), 10, axis=1)
    width = lambda c: c.win_rate.high - c.win_rate.low  # noqa: E731
    assert width(compare(clip_level, clip_level)) == pytest.approx(width(compare(clip_level[:, :1], clip_level[:, :1])))


def judgements(clips: int, bias: float, seed: int = 0) -> list[dict[str, object]]:
    """A session by a judge of known habits: A is 0.5 better in coverage, and the first place is liked."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for i in range(clips):
        base = {"id": f"c{i}"}
        for name, better in (("a", 0.5), ("b", 0.0)):
            for repeat in range(2):
                grade = lambda extra: int(np.clip(round(3.3 + extra + rng.normal(0, 0.6)), 1, 5))  # noqa: E731
                told = {"correctness": grade(0), "coverage": grade(better), "naturalness": grade(0), "why": ""}
                rows.append({**base, "task": "grade", "set": name, "repeat": repeat, "caption": "x" * 200, **told})
        for first, second in (("a", "b"), ("b", "a")):
            winner = first if rng.random() < bias else ("a" if rng.random() < 0.8 else "b")
            rows.append({**base, "task": "compare", "first": first, "second": second, "repeat": 0, "better": winner})
    return rows


def test_the_report_tells_the_difference_and_the_bias() -> None:
    told = summarise(judgements(200, bias=0.4))
    assert told["clips"] == 200
    by = told["pairs"]["a - b"]
    assert by["grades"]["coverage"]["difference"]["low"] > 0.3
    assert by["grades"]["coverage"]["p"] < 0.001
    assert by["grades"]["naturalness"]["difference"]["low"] < 0 < by["grades"]["naturalness"]["difference"]["high"]
    assert by["comparison"]["win_rate"]["mean"] == pytest.approx(0.6 * 0.8 + 0.4 * 0.5, abs=0.05)
    assert by["comparison"]["first_rate"]["low"] > 0.5
    text = markdown(told)
    assert "| captions | correctness | coverage | naturalness | characters |" in text
    assert "Krippendorff" in text


def test_only_clips_that_every_set_was_graded_on_count() -> None:
    rows = judgements(30, bias=0.0)
    for row in rows:
        if row["id"] == "c0" and row.get("set") == "b":
            row.pop("correctness"), row.pop("coverage"), row.pop("naturalness")
            row["failed"] = "HTTP 400"
    told = summarise(rows)
    assert told["clips"] == 29
    assert told["coverage"]["clips_left_out"] == 1
    assert told["coverage"]["judged"] == told["coverage"]["asked"] - 2
    assert "HTTP 400" in markdown(told)
    nothing = summarise([{"id": "x", "failed": "no file"}])
    assert nothing["clips"] == 0
    assert "no file" in markdown(nothing)
