"""A run against its baseline: the same clips, pair by pair, as a whole, by group and by attribute."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from service.gates.rows import Row, groups_of
from service.gates.statistics import PairedTest, holm, paired_bootstrap

COSINE = "cosine"
TOLERATED_MARGIN = 0.05
"""Fall of a margin, in logits, that is none: rows are rounded, and processors differ in the last bits."""
MOST_RESAMPLES = 5_000_000
MOST_DRAWN = 1_000_000_000
"""Resamples of one question, and numbers that are drawn for them, at most: 20 seconds of one core."""
_FEW = 10
"""Resamples below what was seen, up to which a question is near the least p that its resamples can tell."""
_Key = tuple[str, str, bool]


@dataclass(frozen=True)
class Pair:
    """One clip in both runs."""

    before: Row
    after: Row

    @property
    def change(self) -> float:
        """Of the cosine; negative where the clip fits its caption less well than it did."""
        return self.after.cosine - self.before.cosine

    def margins(self) -> Iterator[tuple[str, _Key, float]]:
        """(family, claim, change of its margin) for every claim judged in both runs."""
        for now in self.after.attributes:
            then = self.before.attribute(now.key)
            if then is not None:
                yield now.family, now.key, now.margin - then.margin


@dataclass(frozen=True)
class Change:
    """One question that was asked of the pairs. `measure` is "cosine" or an attribute's family; group None is all.

    `p` is corrected for all questions of the comparison; `pairs` are those that bear on it. `unclear`: it did not fall
    by the resamples that were drawn, but more of them might say that it did.
    """

    group: str | None
    measure: str
    test: PairedTest
    p: float
    fell: bool
    pairs: tuple[Pair, ...]
    unclear: bool = False

    @property
    def name(self) -> str:
        """As people read it."""
        where = "all clips" if self.group is None else f"group {self.group}"
        return f"{where}, {'cosine' if self.measure == COSINE else f'attribute {self.measure}'}"


@dataclass
class Comparison:
    """What changed since the baseline. `removed` and `recaptioned` ids could not be paired, `added` ones are new."""

    pairs: list[Pair] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
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
    comparison: Comparison, *, confidence: float, max_drop: float, min_pairs: int, resamples: int, seed: int
) -> None:
    """Ask whether cosines and attribute margins fell; the answers go into `comparison.changes`.

    All questions together are wrong with a chance of 1 - `confidence` (Holm). `max_drop` is tolerated of cosines.
    A question with fewer than `min_pairs` pairs is not asked. The least p that `resamples` can tell, raised for many
    questions, may lie above that chance, so that nothing could fall: what is near it is drawn as often as it takes, up
    to MOST_RESAMPLES and MOST_DRAWN.
    """
    asked = [one for one in _questions(comparison.pairs) if len(one[2]) >= min_pairs]
    members = groups_of([pair.after for pair in comparison.pairs])
    comparison.small = {group: len(rows) for group, rows in members.items() if len(rows) < min_pairs}
    wrong = 1 - confidence

    def test(measure: str, differences: Sequence[float], draws: int) -> PairedTest:
        tolerated = max_drop if measure == COSINE else TOLERATED_MARGIN
        return paired_bootstrap(differences, confidence=confidence, tolerated=tolerated, resamples=draws, seed=seed)

    tests = [test(measure, differences, resamples) for _, measure, differences, _ in asked]
    for i, (_, measure, differences, _) in enumerate(asked):
        # Twice, or the answer would hang on whether a single resample happened to lie below.
        if _near_least(tests[i]) and 2 * len(asked) * tests[i].least > wrong:
            draws = min(math.ceil(_FEW * len(asked) / wrong), MOST_RESAMPLES, MOST_DRAWN // len(differences))
            tests[i] = test(measure, differences, max(draws, resamples))
    corrected = holm([one.p for one in tests])
    for (group, measure, _, pairs), found, p in zip(asked, tests, corrected, strict=True):
        fell = p <= wrong
        unclear = not fell and _near_least(found) and len(asked) * found.least > wrong
        comparison.changes.append(Change(group, measure, found, p, fell, tuple(pairs), unclear))


def _near_least(test: PairedTest) -> bool:
    return 0 < test.p <= _FEW * test.least


def _questions(pairs: Sequence[Pair]) -> Iterator[tuple[str | None, str, list[float], list[Pair]]]:
    """(group, measure, differences, pairs)."""
    yield None, COSINE, [pair.change for pair in pairs], list(pairs)
    groups = groups_of([pair.after for pair in pairs])
    by_id = {pair.after.id: pair for pair in pairs}
    for group, rows in groups.items():
        members = [by_id[row.id] for row in rows]
        if len(groups) > 1:
            yield group, COSINE, [pair.change for pair in members], members
        families = sorted({family for pair in members for family, _, _ in pair.margins()})
        for family in families:
            changes = [(pair, _mean_change(pair, family)) for pair in members]
            kept = [(pair, change) for pair, change in changes if change is not None]
            yield group, family, [change for _, change in kept], [pair for pair, _ in kept]


def _mean_change(pair: Pair, family: str) -> float | None:
    """One number a clip, or its claims would count as independent clips."""
    changes = [change for name, _, change in pair.margins() if name == family]
    return sum(changes) / len(changes) if changes else None


def fallen(pair: Pair, measure: str) -> float:
    """How far a pair moved in one measure, for sorting: most negative first."""
    if measure == COSINE:
        return pair.change
    change = _mean_change(pair, measure)
    return 0.0 if change is None else change
