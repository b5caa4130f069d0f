"""Pairs that match and pairs that don't, and the maps that are fitted on them."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from training.evaluation.calibrate import fit_kinds, fit_pairs
from training.evaluation.clips import EvaluationClip
from training.evaluation.pairs import KINDS, ScoredPairs, pair_up
from training.objective.examples import TrainCaption


def clip(name: str, caption: str) -> EvaluationClip:
    return EvaluationClip(Path(name), "s", captions=(TrainCaption(caption, "global", {}),))


def test_too_many_captions_are_thinned_alike() -> None:
    clips = [
        EvaluationClip(Path(str(i)), "s", captions=tuple(TrainCaption(f"{kind} {i}", kind, {}) for kind in KINDS))
        for i in range(300)
    ]
    for most in (100, 200, 300):
        thinned = pair_up(clips, most=most)
        assert len(thinned.texts) == most
        kept = sum(text.startswith("fine") for text in thinned.texts)
        assert 0.35 < kept / most < 0.65
        assert thinned.own.tolist() == sorted(thinned.own.tolist())
        assert pair_up(clips, most=most).texts == thinned.texts
    assert len(pair_up(clips, most=600).texts) == 600


def test_pairs_contradict_or_belong_elsewhere() -> None:
    def known(name: str, pitch: str | None) -> EvaluationClip:
        caption = TrainCaption(f"a {pitch} voice of {name}", "global", {"pitch": pitch or "low"})
        return EvaluationClip(
            Path(name), "s", captions=(caption,), facts={"pitch": pitch} if pitch else {"gender": "m"}
        )

    claimed = pair_up([known("a", "low"), known("b", "low"), known("c", "high"), known("d", None)])
    assert claimed.known_false
    # What contradicts is mismatched; what is true of both, or not known, is not.
    assert claimed.false.tolist() == [
        [False, False, True, False],
        [False, False, True, False],
        [True, True, False, True],
        [False] * 4,
    ]
    plain = pair_up([clip("a", "low"), clip("b", "Low."), clip("c", "high")])
    assert not plain.known_false
    assert plain.false.tolist() == [[False, False, True], [False, False, True], [True, True, False]]


def test_a_calibration_finds_the_map_that_made_the_pairs() -> None:
    rng = np.random.default_rng(5)
    cosines = rng.uniform(-0.2, 0.6, 6000)
    truth = (rng.random(6000) < expit(15 * cosines - 4)).astype(float)
    fitted = fit_pairs(ScoredPairs(cosines, truth, rng.integers(0, 400, 6000), cosines[truth == 0]))
    assert fitted["scale"] == pytest.approx(15, rel=0.1) and fitted["bias"] == pytest.approx(-4, rel=0.1)
    table = fitted["mismatched_percentiles"]
    assert len(table) == 101 and table == sorted(table)
    assert table[50] == pytest.approx(np.median(cosines[truth == 0]), abs=1e-4)
    error = fitted["expected_calibration_error"]
    assert 0 <= error["low"] <= error["value"] <= error["high"] < 0.05
    with pytest.raises(ValueError, match="20 pairs"):
        fit_pairs(ScoredPairs(cosines[:10], truth[:10], np.arange(10), cosines[:5]))


def test_scored_pairs_are_as_many_mismatched_as_matched() -> None:
    clips = [clip(str(i), f"caption {i}") for i in range(30)]
    pairs = pair_up(clips)
    cosines = np.arange(900, dtype=np.float64).reshape(30, 30)
    scored = pairs.scored(cosines)
    assert scored.truth.tolist() == [1.0] * 30 + [0.0] * 30
    assert scored.cosines[:30].tolist() == np.diag(cosines).tolist()
    assert not set(scored.cosines[30:]) & set(np.diag(cosines))
    assert len(scored.mismatched) == 30 * 29
    assert pairs.scored(cosines).cosines.tolist() == scored.cosines.tolist()


def test_labels_get_a_map_of_their_own() -> None:
    def known(i: int) -> EvaluationClip:
        pitch = "low" if i % 2 else "high"
        told = [("global", f"a {pitch} voice, number {i}"), ("prompt", f"{pitch} voice")]
        captions = tuple(TrainCaption(text, kind, {"pitch": pitch}) for kind, text in told)
        return EvaluationClip(Path(str(i)), "s", captions=captions, facts={"pitch": pitch})

    clips = [known(i) for i in range(40)]
    rng = np.random.default_rng(1)

    def cosines_of(texts: list[str]) -> np.ndarray:
        match = np.array([[clip.facts["pitch"] in text for text in texts] for clip in clips])
        high = 0.3 if texts[0].startswith("a ") else 0.6  # a label's cosines lie higher
        return high * match + rng.normal(0.2, 0.1, match.shape)

    fitted = fit_kinds(clips, cosines_of)
    assert fitted is not None and fitted["pairs"] == fitted["labels"]["pairs"] == 80
    assert "mismatched_percentiles" not in fitted["labels"]
    middles = [-one["bias"] / one["scale"] for one in (fitted, fitted["labels"])]
    assert middles[0] < middles[1]
    without = [EvaluationClip(one.path, "s", captions=one.captions[:1], facts=one.facts) for one in clips]
    assert "labels" not in (fit_kinds(without, cosines_of) or {"labels": None})
    assert fit_kinds(clips[:3], cosines_of) is None
