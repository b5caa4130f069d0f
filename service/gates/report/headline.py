"""What failed, as one would say it to a colleague: which voice, in what, and what it sounds like now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from service.gates.compare import Change, place
from service.gates.questions import COSINE, VOICE, unit_of
from service.gates.rows import Attribute, Row, Run, groups_of
from service.gates.verdict import Verdict

_ALONE = {
    "clip-outlier": "fell further than this set's pairs wobble",
    "max-clip-drop": "fell further than --max-clip-drop",
}


def headlines(run: Run, verdict: Verdict) -> list[tuple[str, str]]:
    """(where, what) for what failed: claims over all groups, groups, claims within a group, then the whole set.

    A claim that fell over all groups is not said again for each. Clips that fail by themselves are counted.
    """
    shared = [breach for breach in verdict.breaches if breach.id is None]
    fell = [change for change in verdict.comparison.changes if change.fell] if verdict.comparison else []
    rows = groups_of(run.rows)
    everywhere = {one.subset for one in shared if one.group is None}
    places = {(one.group, one.subset) for one in shared}
    told: list[tuple[str, str]] = []
    for group, subset in sorted(places, key=_order):
        if group is not None and subset is not None and subset in everywhere:
            continue
        own = [change for change in fell if (change.group, change.subset) == (group, subset)]
        members = [pair.after for pair in own[0].pairs] if own else run.rows if group is None else rows[group]
        lines = [*_changes(own, members)]
        here = [one for one in shared if (one.group, one.subset) == (group, subset)]
        lines += [one.message for one in here if one.gate not in ("no-regression", "voice-drift")]
        told.append((group if group is not None and subset is None else place(group, subset), "; ".join(lines)))
    alone = Counter(breach.gate for breach in verdict.breaches if breach.id is not None)
    told += [
        (_clips(count), _ALONE.get(gate, f"below {gate.removeprefix('min-')} threshold"))
        for gate, count in alone.items()
    ]
    return told


def _order(one: tuple[str | None, str | None]) -> tuple[int, str, str]:
    group, subset = one
    kind = 0 if group is None and subset is not None else 3 if group is None else 1 if subset is None else 2
    return kind, group or "", subset or ""


def cut_captions(run: Run) -> str:
    """Which clips were judged by the beginning of their captions only; "" where none was."""
    cut = [row.id for row in run.rows if row.truncated]
    if not cut:
        return ""
    listed = ", ".join(cut[:5]) + (", ..." if len(cut) > 5 else "")
    return f"{_clips(len(cut))} judged by the beginning of a caption that is longer than the model reads: {listed}"


def _changes(fell: Sequence[Change], rows: Sequence[Row]) -> Iterator[str]:
    for change in fell:
        if change.level == VOICE:
            yield f"{change.measure} {change.test.mean:+.2f} {unit_of(change.measure)}"
    families = [change for change in fell if change.measure != COSINE and change.level != VOICE]
    missed = sorted(families, key=lambda change: change.test.mean)
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
