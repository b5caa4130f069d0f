"""Which clips the report lets people listen to, the most telling first."""

from __future__ import annotations

from service.gates.rows import Row, Run
from service.gates.verdict import Verdict


def worst_rows(run: Run, verdict: Verdict, count: int) -> list[Row]:
    """Clips that break a gate of their own, then those of failed groups, the furthest fallen, and the lowest."""
    order: list[str] = [breach.id for breach in verdict.breaches if breach.id is not None]
    depth = max((len(breach.clips) for breach in verdict.breaches), default=0)
    for turn in range(depth):  # turn by turn, so that each failed group is heard
        order += [breach.clips[turn] for breach in verdict.breaches if breach.id is None and turn < len(breach.clips)]
    if verdict.comparison is not None:  # what was always bad is no news
        order += [pair.after.id for pair in sorted(verdict.comparison.pairs, key=lambda pair: pair.change)]
    order += [row.id for row in sorted(run.rows, key=lambda row: row.match_probability)]
    by_id = {row.id: row for row in run.rows}
    return [by_id[id] for id in dict.fromkeys(order) if id in by_id][:count]
