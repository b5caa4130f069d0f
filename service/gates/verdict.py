"""The gates: which thresholds a run breaks, what fell since the baseline, and whether the run can be judged at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from statistics import fmean

from service.gates.compare import Comparison, fallen, find_changes, pair_up, place
from service.gates.power import in_words
from service.gates.questions import COSINE, VOICE, unit_of
from service.gates.rows import Attribute, Row, Run, groups_of

MOST_ATTRIBUTES = 3


class Outcome(IntEnum):
    """Exit statuses of `clsp score`."""

    PASSED = 0
    FAILED = 1
    UNDECIDED = 2


@dataclass(frozen=True)
class Gates:
    """Thresholds; None asks for nothing. `confidence` is that of the whole comparison with the baseline."""

    min_match: float | None = None
    min_cosine: float | None = None
    min_percentile: float | None = None
    min_group_match: float | None = None
    max_clip_drop: float | None = None
    max_drop: float = 0.001
    voice: tuple[str, ...] = ()
    """Measured properties that must not move (names of voice.MEASURES)."""
    confidence: float = 0.99
    min_pairs: int = 5
    resamples: int = 20_000
    seed: int = 0
    min_coverage: float = 1.0
    allow_removed: bool = False


@dataclass(frozen=True)
class Breach:
    """A gate that failed: for one clip (`id`), for a group, or for all."""

    gate: str
    message: str
    id: str | None = None
    group: str | None = None
    attributes: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    """Ids that bear on it, the worst first."""
    subset: str | None = None
    """What narrows the group, or all clips: a claimed value, a caption or a label."""

    @property
    def place(self) -> str:
        """Which clips it is about, as people read it."""
        return self.id if self.id is not None else place(self.group, self.subset)


@dataclass
class Verdict:
    """What the gates say. `undecided` has the reasons why they cannot say it for certain."""

    breaches: list[Breach] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    comparison: Comparison | None = None

    @property
    def outcome(self) -> Outcome:
        """A run that could not be judged whole is undecided, whatever the part that was judged says."""
        if self.undecided:
            return Outcome.UNDECIDED
        return Outcome.FAILED if self.breaches else Outcome.PASSED

    @property
    def would_have_seen(self) -> str:
        """How small a fall the comparison could find, in words: what its passing is worth."""
        return in_words(self.comparison.visible) if self.comparison is not None else ""

    def of_clip(self, id: str) -> list[Breach]:
        """Breaches that name a clip, alone or among others."""
        return [breach for breach in self.breaches if breach.id == id or id in breach.clips]


def judge(run: Run, gates: Gates, baseline: Sequence[Row] | None = None) -> Verdict:
    """Hold a run against its gates, and against an earlier run where there is one."""
    verdict = Verdict()
    if run.coverage < gates.min_coverage or not run.rows:
        total = len(run.rows) + len(run.unjudged)
        verdict.undecided.append(
            f"{len(run.unjudged)} of {total} clips could not be judged "
            f"(coverage {run.coverage:.1%}, {gates.min_coverage:.1%} needed)"
        )
    if gates.min_percentile is not None and any(row.percentile is None for row in run.rows):
        verdict.undecided.append(
            "the model has neither mismatched pairs nor reference captions, so clips have no percentiles"
        )
    verdict.breaches += _clip_breaches(run.rows, gates)
    verdict.breaches += _group_breaches(run.rows, gates)
    if baseline is not None:
        verdict.comparison = _compare(run, baseline, gates, verdict)
    return verdict


def _clip_breaches(rows: Sequence[Row], gates: Gates) -> Iterator[Breach]:
    for row in rows:
        measured: list[tuple[str, float | None, float | None]] = [
            ("min-match", row.match_probability, gates.min_match),
            ("min-cosine", row.cosine, gates.min_cosine),
            ("min-percentile", row.percentile, gates.min_percentile),
        ]
        for gate, value, least in measured:
            if least is not None and value is not None and value < least:
                missed = tuple(one.name for one in missed_attributes(row))
                yield Breach(gate, f"{value:.3f} is below {least:g}", row.id, row.group, missed, (row.id,))


def missed_attributes(row: Row) -> list[Attribute]:
    """Claims that an opposite beats, the worst first; where there are none, the weakest one."""
    ranked = sorted(row.attributes, key=lambda one: one.margin)
    missed = [one for one in ranked if one.margin < 0]
    return (missed or ranked[:1])[:MOST_ATTRIBUTES]


def _group_breaches(rows: Sequence[Row], gates: Gates) -> Iterator[Breach]:
    if gates.min_group_match is None:
        return
    for group, members in groups_of(rows).items():
        mean = fmean(row.match_probability for row in members)
        if mean < gates.min_group_match:
            worst = sorted(members, key=lambda row: row.match_probability)
            message = f"mean match {mean:.3f} of {len(members)} clips is below {gates.min_group_match:g}"
            yield Breach("min-group-match", message, None, group, (), tuple(row.id for row in worst))


def _compare(run: Run, baseline: Sequence[Row], gates: Gates, verdict: Verdict) -> Comparison:
    comparison = pair_up(baseline, run.rows, [one.id for one in run.unjudged])
    if comparison.identities is not None:
        then, now = comparison.identities
        verdict.undecided.append(f"the baseline was judged by another model: {then}, now {now}")
        return comparison
    for ids, what in (
        (comparison.removed, "in the baseline, but not in this set"),
        (comparison.recaptioned, "captioned otherwise than in the baseline, and so not compared"),
    ):
        if ids and not gates.allow_removed:
            listed = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
            verdict.undecided.append(f"{what} ({len(ids)}): {listed}; --allow-removed lets it pass")
    if len(comparison.pairs) < gates.min_pairs:
        verdict.undecided.append(
            f"{len(comparison.pairs)} clips can be compared with the baseline; {gates.min_pairs} are needed"
        )
    find_changes(
        comparison,
        confidence=gates.confidence,
        max_drop=gates.max_drop,
        min_pairs=gates.min_pairs,
        resamples=gates.resamples,
        seed=gates.seed,
        measured=gates.voice,
    )
    fell = [change for change in comparison.changes if change.fell]
    unclear = [change.name for change in comparison.changes if change.unclear]
    if unclear and not fell:
        verdict.undecided.append(
            f"{len(comparison.changes)} questions at {100 * gates.confidence:g}% confidence are too many to be told "
            f"whether these fell: {'; '.join(unclear[:5])}{'; ...' if len(unclear) > 5 else ''}. "
            "Lower --confidence, or compare fewer groups at once"
        )
    for change in fell:
        worst = sorted(change.pairs, key=lambda pair: fallen(pair, change.measure))
        same = [one for one in fell if (one.group, one.subset) == (change.group, change.subset)]
        missed = [one for one in same if one.measure != COSINE and one.level != VOICE]
        families = [one.measure for one in sorted(missed, key=lambda one: one.test.mean)]
        unit = f" {unit_of(change.measure)}".rstrip()
        moved = f"fell by {-change.test.mean:.3f}"
        if change.level == VOICE:
            moved, families = f"moved by {change.test.mean:+.3f}", []
        message = (
            f"{change.name} {moved}{unit} "
            f"({100 * gates.confidence:g}% interval {change.test.low:+.3f} to {change.test.high:+.3f}, "
            f"{change.test.pairs} pairs, p {change.p:.4f})"
        )
        verdict.breaches.append(
            Breach(
                "voice-drift" if change.level == VOICE else "no-regression",
                message,
                None,
                change.group,
                tuple(families) if change.measure == COSINE else (change.measure,),
                tuple(pair.after.id for pair in worst if fallen(pair, change.measure) < 0),
                change.subset,
            )
        )
    verdict.breaches += _falls_of_clips(comparison, gates)
    return comparison


def _falls_of_clips(comparison: Comparison, gates: Gates) -> Iterator[Breach]:
    """Single clips, the furthest fallen first: the set's mean hides one broken clip among a hundred."""
    for pair, p in comparison.outliers:
        message = (
            f"cosine fell by {-pair.change:.3f}, from {pair.before.cosine:.3f} to {pair.after.cosine:.3f}, "
            f"further than this set's pairs wobble (p {p:.4f})"
        )
        yield _of_one_clip("clip-outlier", message, pair.after)
    if gates.max_clip_drop is not None:
        for pair in sorted(comparison.pairs, key=lambda pair: pair.change):
            if -pair.change > gates.max_clip_drop:
                message = f"cosine fell by {-pair.change:.3f}, more than {gates.max_clip_drop:g}"
                yield _of_one_clip("max-clip-drop", message, pair.after)


def _of_one_clip(gate: str, message: str, row: Row) -> Breach:
    missed = tuple(one.name for one in missed_attributes(row) if one.margin < 0)
    return Breach(gate, message, row.id, row.group, missed, (row.id,))
