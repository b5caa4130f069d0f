"""What passes, what fails and what cannot be judged: thresholds, coverage, and the comparison with a baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest

from service.gates.report.headline import headlines
from service.gates.rows import Row, Run, Unjudged
from service.gates.verdict import Gates, Outcome, Verdict, judge
from tests.support.gate_rows import attribute, row

FAST = Gates(resamples=2000)


def voices(names: Iterable[str], clips: int, *, seed: int, fall: dict[str, float] | None = None) -> list[Row]:
    """Clips of several voices, each line with a noise of its own; `fall` lowers a voice's cosines and rate margins."""
    rng = np.random.default_rng(seed)
    rows = []
    for name in names:
        drop = (fall or {}).get(name, 0.0)
        for i in range(clips):
            margin = 2.0 + float(rng.normal(0, 0.3)) - 20 * drop
            rows.append(
                row(
                    f"{name}-{i}",
                    cosine=0.3 + float(rng.normal(0, 0.02)) - drop,
                    attributes=(attribute("rate", "fast", margin, heard="fast" if margin > 0 else "slow"),),
                )
            )
    return rows


def test_thresholds_name_the_clip_and_what_it_misses() -> None:
    good = row("anna-1")
    bad = row(
        "ben-1",
        match_probability=0.2,
        cosine=0.1,
        percentile=30.0,
        attributes=(attribute("rate", "fast", -2.0, heard="slow"),),
    )
    verdict = judge(Run([good, bad]), Gates(min_match=0.5, min_cosine=0.2, min_percentile=50))
    assert verdict.outcome is Outcome.FAILED
    assert [(breach.gate, breach.id) for breach in verdict.breaches] == [
        ("min-match", "ben-1"),
        ("min-cosine", "ben-1"),
        ("min-percentile", "ben-1"),
    ]
    assert verdict.breaches[0].attributes == ("rate: fast",)
    assert judge(Run([good]), Gates(min_match=0.5)).outcome is Outcome.PASSED


def test_a_threshold_is_met_by_its_own_value() -> None:
    assert judge(Run([row("a-1", match_probability=0.5)]), Gates(min_match=0.5)).outcome is Outcome.PASSED


def test_a_group_fails_by_its_mean_and_names_its_worst() -> None:
    rows = [row("anna-1"), row("ben-1", match_probability=0.1), row("ben-2", match_probability=0.7)]
    (breach,) = judge(Run(rows), Gates(min_group_match=0.5)).breaches
    assert (breach.group, breach.clips) == ("ben", ("ben-1", "ben-2"))


def test_what_is_not_judged_is_never_passed_over() -> None:
    lost = Unjudged("anna-2", "anna", "A woman talks fast.", "anna-2.wav", "No such file")
    run = Run([row("anna-1")], [lost])
    verdict = judge(run, Gates())
    assert verdict.outcome is Outcome.UNDECIDED == 2
    assert "1 of 2" in verdict.undecided[0]
    assert judge(run, Gates(min_coverage=0.5)).outcome is Outcome.PASSED
    assert judge(Run([], [lost]), Gates(min_coverage=0.0)).outcome is Outcome.UNDECIDED
    failing = Run([row("anna-1", match_probability=0.0)], [lost])
    assert judge(failing, Gates(min_match=0.5)).outcome is Outcome.UNDECIDED, "half a set has no verdict"


def test_percentiles_need_references() -> None:
    verdict = judge(Run([row("a-1", percentile=None)]), Gates(min_percentile=50))
    assert verdict.outcome is Outcome.UNDECIDED


def test_one_voice_that_fell_is_found_with_its_attribute() -> None:
    before = voices("abcd", 8, seed=1)
    after = voices("abcd", 8, seed=2, fall={"c": 0.1})
    verdict = judge(Run(after), FAST, before)
    assert verdict.outcome is Outcome.FAILED
    assert {breach.group for breach in verdict.breaches} <= {"c", None}
    by_group = [breach for breach in verdict.breaches if breach.group == "c"]
    assert {attribute for breach in by_group for attribute in breach.attributes} == {"rate"}
    assert all(clip.startswith("c-") for breach in by_group for clip in breach.clips)
    assert verdict.of_clip(by_group[0].clips[0])


@pytest.mark.parametrize(("count", "confidence"), [(120, 0.99), (6, 0.9999)])
def test_a_voice_that_fell_is_found_among_many_and_at_any_confidence(count: int, confidence: float) -> None:
    names = [chr(ord("a") + i) for i in range(count)]
    before = voices(names, 12, seed=1)
    verdict = judge(Run(voices(names, 12, seed=2, fall={"c": 0.188})), Gates(confidence=confidence), before)
    assert verdict.outcome is Outcome.FAILED
    assert "c" in {breach.group for breach in verdict.breaches} <= {"c", None}


def test_what_no_number_of_resamples_can_tell_is_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.gates.compare.MOST_RESAMPLES", 3000)
    before, after = voices("abcd", 12, seed=1), voices("abcd", 12, seed=2, fall={"c": 0.188})
    verdict = judge(Run(after), Gates(confidence=0.9999, resamples=2000), before)
    assert verdict.outcome is Outcome.UNDECIDED
    assert "group c, cosine" in verdict.undecided[0]
    assert "--confidence" in verdict.undecided[0]
    same = judge(Run(before), Gates(confidence=0.9999, resamples=2000), before)
    assert same.outcome is Outcome.PASSED


def test_noise_alone_passes() -> None:
    failed = 0
    for seed in range(40):
        run = Run(voices("abcd", 8, seed=100 + seed))
        failed += judge(run, FAST, voices("abcd", 8, seed=500 + seed)).outcome is not Outcome.PASSED
    assert failed <= 4, "1 in 100 is what the confidence of 0.99 states"


def test_an_improvement_is_no_regression() -> None:
    before = voices("ab", 8, seed=1, fall={"a": 0.1, "b": 0.1})
    assert judge(Run(voices("ab", 8, seed=2)), FAST, before).outcome is Outcome.PASSED


def test_a_tolerated_drop_passes() -> None:
    before = [row(f"a-{i}", cosine=0.3 + i / 1000, attributes=()) for i in range(8)]
    after = [row(f"a-{i}", cosine=0.28 + i / 900, attributes=()) for i in range(8)]
    assert judge(Run(after), FAST, before).outcome is Outcome.FAILED
    assert judge(Run(after), Gates(max_drop=0.05, resamples=2000), before).outcome is Outcome.PASSED


def test_a_clip_that_left_the_set_is_noticed() -> None:
    before = voices("ab", 6, seed=1)
    verdict = judge(Run(before[1:]), FAST, before)
    assert verdict.outcome is Outcome.UNDECIDED
    assert "a-0" in verdict.undecided[0]
    assert judge(Run(before[1:]), Gates(allow_removed=True, resamples=2000), before).outcome is Outcome.PASSED


def test_new_clips_and_new_captions_are_not_compared() -> None:
    before = voices("ab", 6, seed=1)
    after = [*before[:-1], row("b-5", caption="A man whispers.", cosine=-0.5), row("c-1", cosine=-0.5)]
    verdict = judge(Run(after), Gates(allow_removed=True, resamples=2000), before)
    assert verdict.comparison is not None
    assert verdict.comparison.recaptioned == ["b-5"]
    assert verdict.comparison.added == ["c-1"]
    assert verdict.outcome is Outcome.PASSED
    unasked = judge(Run(after), FAST, before)
    assert unasked.outcome is Outcome.UNDECIDED, "a new caption must not take a voice out of the gate in silence"
    assert "b-5" in unasked.undecided[0]


def test_groups_too_small_for_a_question_of_their_own_are_named() -> None:
    before = [*voices("ab", 6, seed=1), *voices("c", 3, seed=2)]
    verdict = judge(Run(before), FAST, before)
    assert verdict.comparison is not None
    assert verdict.comparison.small == {"c": 3}
    assert {change.group for change in verdict.comparison.changes} == {None, "a", "b"}


def test_the_last_digit_of_all_clips_is_no_drop() -> None:
    # As another processor rounds: each cosine one unit of the last place that rows keep lower, without any noise.
    before = [row(f"a-{i}", cosine=0.3 + i / 100, attributes=(attribute("rate", "fast", 1.5),)) for i in range(8)]
    after = [row(f"a-{i}", cosine=0.2999 + i / 100, attributes=(attribute("rate", "fast", 1.499),)) for i in range(8)]
    assert judge(Run(after), FAST, before).outcome is Outcome.PASSED


def test_another_model_is_not_compared() -> None:
    before = [row(f"a-{i}", identity="model-0") for i in range(6)]
    verdict = judge(Run([row(f"a-{i}") for i in range(6)]), FAST, before)
    assert verdict.outcome is Outcome.UNDECIDED
    assert "model-0" in verdict.undecided[0]


@pytest.mark.parametrize("pairs", [0, 1, 4])
def test_too_few_pairs_are_no_comparison(pairs: int) -> None:
    rows = [row(f"a-{i}") for i in range(pairs)] or [row("a-9")]
    before = rows if pairs else [row("b-1")]
    assert judge(Run(rows), Gates(allow_removed=True), before).outcome is Outcome.UNDECIDED


def acted(lost: Callable[[str, str], bool] = lambda voice, style: False, *, seed: int, lines: int = 4) -> list[Row]:
    """Six voices in three styles; a take whose style is lost fits its caption less well by 0.4."""
    rng = np.random.default_rng(seed)
    rows = []
    for voice in "abcdef":
        for style in ("angry", "sad", "calm"):
            for line in range(lines):
                fall = 0.4 if lost(voice, style) else 0.0
                cosine = 0.5 + float(rng.normal(0, 0.05)) - fall
                caption = f"A person sounds {style}."
                rows.append(row(f"{voice}-{style}-{line}", caption=caption, cosine=cosine, attributes=()))
    return rows


def fell(verdict: Verdict) -> set[str]:
    return {breach.place for breach in verdict.breaches if breach.gate == "no-regression"}


def test_a_style_lost_in_all_voices_is_named() -> None:
    verdict = judge(Run(acted(lambda voice, style: style == "angry", seed=1)), FAST, acted(seed=2))
    assert "emotion: angry" in fell(verdict)
    assert not any("sad" in name or "calm" in name for name in fell(verdict))
    assert headlines(Run([]), verdict)[0][0] == "emotion: angry"


def test_a_style_lost_in_one_voice_is_named_with_both() -> None:
    def lost(voice: str, style: str) -> bool:
        return (voice, style) == ("c", "angry")

    verdict = judge(Run(acted(lost, seed=1, lines=12)), FAST, acted(seed=2, lines=12))
    assert "group c, emotion: angry" in fell(verdict)
    assert not any("sad" in name or name.startswith("group a") for name in fell(verdict))


def test_many_questions_about_claims_raise_no_more_false_alarms() -> None:
    alarms = sum(bool(fell(judge(Run(acted(seed=100 + i)), FAST, acted(seed=900 + i)))) for i in range(40))
    assert alarms <= 3, "1 in 100 is what the confidence of 0.99 states"


def test_one_broken_clip_is_found_though_all_means_hold() -> None:
    def lost_line(rows: list[Row]) -> list[Row]:
        return [replace(one, cosine=one.cosine - 0.8) if one.id == "d-sad-2" else one for one in rows]

    (breach,) = judge(Run(lost_line(acted(seed=1))), FAST, acted(seed=2)).breaches
    assert (breach.gate, breach.id) == ("clip-outlier", "d-sad-2")


def test_a_clip_may_fall_no_further_than_asked() -> None:
    before = [row(f"a-{i}", cosine=0.5) for i in range(6)]
    after = [replace(one, cosine=0.3) if one.id == "a-3" else one for one in before]
    (breach,) = judge(Run(after), Gates(max_clip_drop=0.1), before).breaches
    assert (breach.gate, breach.id) == ("max-clip-drop", "a-3")
    assert judge(Run(after), Gates(max_clip_drop=0.2), before).outcome is Outcome.PASSED


def test_takes_that_were_kept_do_not_make_outliers_of_the_others() -> None:
    before = acted(seed=1)
    spoken = acted(seed=2)
    after = [now if i % 5 == 0 else then for i, (then, now) in enumerate(zip(before, spoken, strict=True))]
    assert judge(Run(after), FAST, before).outcome is Outcome.PASSED
