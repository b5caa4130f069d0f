"""What a passing verdict is worth: the stated fall is found about as often as stated."""

from __future__ import annotations

import numpy as np
import pytest

from service.gates.power import pairs_needed, quantile_t, visible_change
from service.gates.report.markdown import markdown
from service.gates.rows import Run
from service.gates.statistics import paired_bootstrap
from service.gates.verdict import Gates, Outcome, judge
from tests.support.gate_rows import row


def test_quantiles_are_students() -> None:
    from scipy import stats

    for p in (0.95, 0.99, 0.9995):
        for freedom in (8, 20, 100):
            assert quantile_t(p, freedom) == pytest.approx(stats.t.ppf(p, freedom), rel=0.02)


def test_a_fall_of_the_stated_size_is_found_as_often_as_stated() -> None:
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(150):
        wobble = rng.normal(0, 0.05, 16)
        fall = visible_change([*wobble], error=0.01, tolerated=0.0)
        drop = rng.normal(-fall, 0.05, 16)
        found += paired_bootstrap(drop, confidence=0.99, resamples=2000).p <= 0.01
    assert 100 <= found <= 141, "80 % of 150 are 120"
    assert pairs_needed([*wobble], fall, error=0.01, tolerated=0.0) == pytest.approx(16, abs=1)


def test_a_passing_verdict_says_what_it_would_have_seen() -> None:
    before = [row(f"{name}-{i}", cosine=0.3 + 0.01 * (i % 3)) for name in "ab" for i in range(8)]
    after = [row(f"{name}-{i}", cosine=0.3 + 0.01 * (i % 4)) for name in "ab" for i in range(8)]
    run = Run(after)
    verdict = judge(run, Gates(resamples=2000), before)
    assert verdict.outcome is Outcome.PASSED
    assert "in group a" in verdict.would_have_seen
    text = markdown(run, verdict, gates="none")
    assert "Would have seen a fall of 0.0" in text


def test_a_comment_holds_no_markup_of_the_set() -> None:
    hostile = "</td><script>|[x](http://y) @team `a`\n# head"
    before = [row(f"a-{i}", caption=hostile, cosine=0.5, attributes=()) for i in range(6)]
    after = [row(f"a-{i}", caption=hostile, cosine=0.1 + i / 100, attributes=()) for i in range(6)]
    run = Run(after)
    text = markdown(run, judge(run, Gates(resamples=2000), before), gates="g")
    assert "failed" in text
    assert all(one not in text for one in ("<script", "\n# head", "@team"))
    assert "[x](" not in text
