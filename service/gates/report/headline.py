"""What failed, as one would say it to a colleague: which voice, in what, and what it sounds like now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from service.gates.compare import COSINE, Change
from service.gates.rows import Attribute, Row, Run, groups_of
from service.gates.verdict import Verdict

ALL = "all clips"


def headlines(run: Run, verdict: Verdict) -> list[tuple[str, str]]:
    """(where, what) for each group that failed, the whole set last; clips that fail by themselves are counted."""
    shared = [breach for breach in verdict.breaches if breach.id is None]
    fell = [change for change in verdict.comparison.changes if change.fell] if verdict.comparison else []
    rows = groups_of(run.rows)
    told: list[tuple[str, str]] = []
    for group in sorted({breach.group for breach in shared}, key=lambda group: (group is None, group or "")):
        own = [change for change in fell if change.group == group]
        members = run.rows if group is None else rows[group]
        lines = [*_changes(own, members)]
        lines += [one.message for one in shared if one.group == group and one.gate != "no-regression"]
        told.append((ALL if group is None else group, "; ".join(lines)))
    alone = Counter(breach.gate for breach in verdict.breaches if breach.id is not None)
    told += [(_clips(count), f"below {gate.removeprefix('min-')} threshold") for gate, count in alone.items()]
    return told


def cut_captions(run: Run) -> str:
    """Which clips were judged by the beginning of their captions only; "" where none was."""
    cut = [row.id for row in run.rows if row.truncated]
    if not cut:
        return ""
    listed = ", ".join(cut[:5]) + (", ..." if len(cut) > 5 else "")
    return f"{_clips(len(cut))} judged by the beginning of a caption that is longer than the model reads: {listed}"


def _changes(fell: Sequence[Change], rows: Sequence[Row]) -> Iterator[str]:
    missed = sorted((change for change in fell if change.measure != COSINE), key=lambda change: change.test.mean)
    yield from (_attribute(change, rows) for change in missed)
    for change in fell:
        if change.measure == COSINE:
            yield f"{'' if missed else 'captions fit less well, '}cosine {change.test.mean:+.3f}"


def _attribute(change: Change, rows: Sequence[Row]) -> str:
    claims = [one for row in rows for one in row.attributes if one.family == change.measure]
    wanted = ", ".join(_said(value) for value in dict.fromkeys((one.negated, one.value) for one in claims))
    opposite = [one for one in claims if one.margin < 0]
    if not opposite:
        return f"{change.measure} less {wanted} than it was"
    heard = Counter(_heard(one) for one in opposite).most_common(1)[0][0]
    return f"{change.measure} should be {wanted}, {len(opposite)} of {_clips(len(claims))} sound more {heard}"


def _said(claim: tuple[bool, str]) -> str:
    negated, value = claim
    return f"not {value}" if negated else value


def _heard(claim: Attribute) -> str:
    return claim.value if claim.negated else claim.heard


def _clips(count: int) -> str:
    return f"{count} clip{'' if count == 1 else 's'}"
