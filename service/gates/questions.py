"""Which questions a comparison asks of its pairs: of all, of what captions claim, of groups, and where they cross."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

from service.gates.rows import Row
from service.gates.voice import MEASURES, PREFIX, change_of
from service.style.claims import read_claims

COSINE: Final = "cosine"
ALL, PLAIN, CROSSED, CLIPS, VOICE = "all", "plain", "crossed", "clips", "voice"
SHARES: Final = {ALL: 0.15, PLAIN: 0.40, CROSSED: 0.30, CLIPS: 0.15, VOICE: 0.40}
"""Share of the chance of a false alarm that each level has, however many questions it holds: crossings and clips are
many, and would otherwise cost the few plain questions their power. A level that asks nothing leaves its share."""
_SHOWN_CAPTION = 60


@dataclass(frozen=True)
class Pair:
    """One clip in both runs."""

    before: Row
    after: Row

    @property
    def change(self) -> float:
        """Of the cosine; negative where the clip fits its caption less well than it did."""
        return self.after.cosine - self.before.cosine

    def margins(self) -> Iterator[tuple[str, tuple[str, str, bool], float]]:
        """(family, claim, change of its margin, logits) for every claim judged in both runs."""
        for now in self.after.attributes:
            then = self.before.attribute(now.key)
            if then is not None:
                yield now.family, now.key, now.margin - then.margin


class Question(NamedTuple):
    """Did `measure` fall in these pairs? `subset` narrows all clips or a group: a claim, a caption or a label."""

    level: str
    group: str | None
    subset: str | None
    measure: str
    differences: list[float]
    pairs: list[Pair]


class Subset(NamedTuple):
    """Some of the pairs by what they have in common, and the claimed family where that is a claim."""

    name: str
    pairs: list[Pair]
    family: str | None = None


def questions(pairs: Sequence[Pair], min_pairs: int, measured: Sequence[str] = ()) -> list[Question]:
    """Every question that has at least `min_pairs` pairs, the plain ones first; the same pairs are asked once.

    Of all pairs: cosines. Of each claimed value ("emotion: angry"), each caption that repeats and each label, over all
    groups: cosines, and a claim's margin. Of each group: cosines. Crossed: each family's margins within a group, and
    each subset within a group. `measured` properties of the voice (MEASURES): over all pairs, and of each group.
    """
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.after.group, []).append(pair)
    groups = dict(sorted(groups.items()))
    found = [*_asked(pairs, groups), *_measured(pairs, groups, measured)]
    distinct: dict[tuple[str, tuple[str, ...]], Question] = {}
    for one in found:
        if len(one.pairs) >= min_pairs:
            distinct.setdefault((one.measure, tuple(pair.after.id for pair in one.pairs)), one)
    return list(distinct.values())


def _asked(pairs: Sequence[Pair], groups: dict[str, list[Pair]]) -> Iterator[Question]:
    yield _of_cosines(ALL, None, None, list(pairs))
    for group, members in groups.items():
        yield _of_cosines(PLAIN, group, None, members)
    for subset in subsets(pairs):
        # What every clip claims is asked of all clips and of each group.
        if len(subset.pairs) < len(pairs):
            within = {pair.after.group for pair in subset.pairs}
            level = PLAIN if len(within) > 1 or len(groups) == 1 else CROSSED
            yield from _of_subset(level, None if level == PLAIN else within.pop(), subset)
    for group, members in groups.items():
        for family in sorted({family for pair in members for family, _, _ in pair.margins()}):
            yield _of_margins(CROSSED, group, None, members, family)
        if len(groups) > 1:
            for subset in subsets(members):
                yield from _of_subset(CROSSED, group, subset)


def _measured(pairs: Sequence[Pair], groups: dict[str, list[Pair]], names: Sequence[str]) -> Iterator[Question]:
    for name in names:
        for group, members in ((None, pairs), *groups.items()):
            measure = f"{PREFIX}{name}"
            moved = [(pair, change) for pair in members if (change := change_in(pair, measure)) is not None]
            yield Question(VOICE, group, None, measure, [change for _, change in moved], [pair for pair, _ in moved])


def change_in(pair: Pair, measure: str) -> float | None:
    """How far a pair moved in any measure, in its unit; None where it does not bear on it."""
    if measure == COSINE:
        return pair.change
    if measure.startswith(PREFIX):
        return change_of(measure.removeprefix(PREFIX), pair.before, pair.after)
    return mean_change(pair, measure)


def unit_of(measure: str) -> str:
    """The unit of a measure; "" for cosines."""
    if measure == COSINE:
        return ""
    return MEASURES[measure.removeprefix(PREFIX)].unit if measure.startswith(PREFIX) else "logits"


def _of_subset(level: str, group: str | None, subset: Subset) -> Iterator[Question]:
    yield _of_cosines(level, group, subset.name, subset.pairs)
    if subset.family is not None:
        yield _of_margins(level, group, subset.name, subset.pairs, subset.family)


def _of_cosines(level: str, group: str | None, subset: str | None, pairs: list[Pair]) -> Question:
    return Question(level, group, subset, COSINE, [pair.change for pair in pairs], pairs)


def _of_margins(level: str, group: str | None, subset: str | None, pairs: list[Pair], family: str) -> Question:
    changes = [(pair, mean_change(pair, family)) for pair in pairs]
    kept = [(pair, change) for pair, change in changes if change is not None]
    return Question(level, group, subset, family, [change for _, change in kept], [pair for pair, _ in kept])


def mean_change(pair: Pair, family: str) -> float | None:
    """One number a clip, in logits, or its claims would count as independent clips."""
    changes = [change for name, _, change in pair.margins() if name == family]
    return sum(changes) / len(changes) if changes else None


def subsets(pairs: Sequence[Pair]) -> list[Subset]:
    """The pairs by label, by claimed value, then by caption where one repeats; by name within each."""
    claimed: dict[tuple[str, str], list[Pair]] = {}
    labelled: dict[str, list[Pair]] = {}
    captioned: dict[str, list[Pair]] = {}
    for pair in pairs:
        for claim in _claims(pair.after.caption):
            claimed.setdefault(claim, []).append(pair)
        for label in pair.after.labels:
            labelled.setdefault(label, []).append(pair)
        captioned.setdefault(pair.after.caption, []).append(pair)
    return [
        *(Subset(name, members) for name, members in sorted(labelled.items())),
        *(Subset(name, members, family) for (name, family), members in sorted(claimed.items())),
        *(Subset(_quoted(text), members) for text, members in sorted(captioned.items()) if len(members) > 1),
    ]


@cache
def _claims(caption: str) -> tuple[tuple[str, str], ...]:
    """(name, family) of what a caption claims."""
    claims = read_claims(caption)
    return tuple((f"{one.family}: {'not ' if one.negated else ''}{one.value}", one.family) for one in claims)


def _quoted(caption: str) -> str:
    cut = caption if len(caption) <= _SHOWN_CAPTION else f"{caption[: _SHOWN_CAPTION - 3]}..."
    return f"caption “{cut}”"
