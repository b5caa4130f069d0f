"""A run against its baseline, pair by pair: what fell, as a whole, by claim and group, and clip by clip."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from service.gates.power import visible_change
from service.gates.questions import ALL, CLIPS, COSINE, PLAIN, SHARES, VOICE, Pair, Question, change_in, questions
from service.gates.rows import Row, groups_of
from service.gates.statistics import PairedTest, outliers, paired_bootstrap, weighted_holm
from service.gates.voice import MEASURES, PREFIX

TOLERATED_MARGIN = 0.05
"""Fall of a margin, in logits, that is none: rows are rounded, and processors differ in the last bits."""
MOST_RESAMPLES = 5_000_000
MOST_DRAWN = 1_000_000_000
"""Resamples of one question, and numbers that are drawn for them, at most: 20 seconds of one core."""
_FEW = 10
"""Resamples below what was seen, up to which a question is near the least p that its resamples can tell."""


@dataclass(frozen=True)
class Change:
    """One question that was asked of the pairs. `measure` is "cosine" or an attribute's family; group None is all.

    `p` is corrected for all questions of the comparison; `pairs` are those that bear on it. `unclear`: it did not fall
    by the resamples that were drawn, but more of them might say that it did. `subset` narrows it to a claimed value, a
    caption or a label.
    """

    group: str | None
    measure: str
    test: PairedTest
    p: float
    fell: bool
    pairs: tuple[Pair, ...]
    unclear: bool = False
    subset: str | None = None
    level: str = PLAIN

    @property
    def name(self) -> str:
        """As people read it."""
        where = place(self.group, self.subset)
        return (
            f"{where}, {self.measure if self.measure == COSINE or self.level == VOICE else f'attribute {self.measure}'}"
        )


def place(group: str | None, subset: str | None) -> str:
    """Which clips a question is about, as people read it."""
    where = "" if group is None else f"group {group}"
    return ", ".join(part for part in (where, subset) if part) or "all clips"


@dataclass
class Comparison:
    """What changed since the baseline. `removed` and `recaptioned` ids could not be paired, `added` ones are new."""

    pairs: list[Pair] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    outliers: list[tuple[Pair, float]] = field(default_factory=list)
    """Clips that fell further than the set's own pairs wobble, the furthest first, with corrected p."""
    visible: list[tuple[Question, float]] = field(default_factory=list)
    """What each question would have found four times in five, in its unit."""
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    recaptioned: list[str] = field(default_factory=list)
    small: dict[str, int] = field(default_factory=dict)
    """Groups with too few pairs for a question of their own, and how many those are."""
    identities: tuple[str, str] | None = None
    """(baseline's, this run's) where they differ: then nothing was compared."""

    @property
    def comparable(self) -> bool:
        """Whether both runs were judged by the same model under the same policy."""
        return self.identities is None


def pair_up(before: Sequence[Row], after: Sequence[Row], unjudged: Sequence[str]) -> Comparison:
    """Pair two runs by id. `unjudged` are ids of this run that have no row: they count as neither removed nor new."""
    comparison = Comparison()
    identities = {row.identity for row in before}, {row.identity for row in after}
    if before and after and identities[0] != identities[1]:
        comparison.identities = ", ".join(sorted(identities[0])), ", ".join(sorted(identities[1]))
        return comparison
    then = {row.id: row for row in before}
    now = {row.id: row for row in after}
    comparison.removed = sorted(then.keys() - now.keys() - set(unjudged))
    comparison.added = sorted(now.keys() - then.keys())
    for id in (row.id for row in after if row.id in then):
        if then[id].caption == now[id].caption:
            comparison.pairs.append(Pair(then[id], now[id]))
        else:
            comparison.recaptioned.append(id)
    return comparison


def find_changes(
    comparison: Comparison,
    *,
    confidence: float,
    max_drop: float,
    min_pairs: int,
    resamples: int,
    seed: int,
    measured: Sequence[str] = (),
) -> None:
    """Ask whether cosines and attribute margins fell; the answers go into `comparison.changes` and `.outliers`.

    All questions together are wrong with a chance of 1 - `confidence` (weighted Holm, by the shares of
    questions.SHARES). `max_drop` is tolerated of cosines. A question with fewer than `min_pairs` pairs is not asked.
    The least p that `resamples` can tell, raised for many questions, may lie above that chance, so that nothing could
    fall: what is near it is drawn as often as it takes, up to MOST_RESAMPLES and MOST_DRAWN.
    """
    asked = questions(comparison.pairs, min_pairs, measured)
    members = groups_of([pair.after for pair in comparison.pairs])
    comparison.small = {group: len(rows) for group, rows in members.items() if len(rows) < min_pairs}
    wrong = 1 - confidence
    falls = outliers([pair.change for pair in comparison.pairs], tolerated=max_drop)
    weights = _weights([one.level for one in asked] + [CLIPS] * len(falls))

    def test(one: Question, draws: int) -> PairedTest:
        tolerated = _tolerated(one, max_drop)

        def ask(differences: Sequence[float]) -> PairedTest:
            return paired_bootstrap(differences, confidence=confidence, tolerated=tolerated, resamples=draws, seed=seed)

        if one.level == VOICE:  # either way is a change of voice
            down = ask(one.differences)
            up = ask([-value for value in one.differences])
            return replace(down, p=min(1.0, 2 * min(down.p, up.p)), least=2 * down.least)
        return ask(one.differences)

    tests = [test(one, resamples) for one in asked]
    for i, one in enumerate(asked):
        # Twice, or the answer would hang on whether a single resample happened to lie below.
        if _near_least(tests[i]) and 2 * tests[i].least > wrong * weights[i]:
            draws = min(math.ceil(_FEW / (wrong * weights[i])), MOST_RESAMPLES, MOST_DRAWN // len(one.differences))
            tests[i] = test(one, max(draws, resamples))
    for i, one in enumerate(asked):
        comparison.visible.append(
            (one, visible_change(one.differences, error=wrong * weights[i], tolerated=_tolerated(one, max_drop)))
        )
    corrected = weighted_holm([*(one.p for one in tests), *falls], weights)
    for one, found, weight, p in zip(asked, tests, weights, corrected, strict=False):
        fell = p <= wrong
        unclear = not fell and _near_least(found) and found.least > wrong * weight
        comparison.changes.append(
            Change(one.group, one.measure, found, p, fell, tuple(one.pairs), unclear, one.subset, one.level)
        )
    # A clip of a group that fell as a whole is named there.
    told = {
        pair.after.id for one in comparison.changes if one.fell and one.level not in (ALL, VOICE) for pair in one.pairs
    }
    for pair, p in zip(comparison.pairs if falls else (), corrected[len(asked) :], strict=True):
        if p <= wrong and pair.after.id not in told:
            comparison.outliers.append((pair, p))
    comparison.outliers.sort(key=lambda one: one[0].change)


def _tolerated(question: Question, max_drop: float) -> float:
    """The mean change that is none, in the question's unit."""
    if question.level == VOICE:
        return MEASURES[question.measure.removeprefix(PREFIX)].tolerated
    return max_drop if question.measure == COSINE else TOLERATED_MARGIN


def _weights(levels: Sequence[str]) -> list[float]:
    """Each question's part of the whole, 1 in sum: a level's share is that of its questions alike."""
    counts = Counter(levels)
    total = sum(SHARES[level] for level in counts)
    return [SHARES[level] / total / counts[level] for level in levels]


def _near_least(test: PairedTest) -> bool:
    return 0 < test.p <= _FEW * test.least


def fallen(pair: Pair, measure: str) -> float:
    """How far a pair fell in one measure, or moved in a measured one, for sorting: most negative first."""
    change = change_in(pair, measure) or 0.0
    return -abs(change) if measure.startswith(PREFIX) else change
