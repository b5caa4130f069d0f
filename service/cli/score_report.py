"""A judged run in the terminal: groups, what failed, coverage; for a few clips their attributes and moments too."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from service.cli.output import scores_table, table
from service.gates.questions import COSINE
from service.gates.report.headline import cut_captions, headlines
from service.gates.rows import Row, Run, groups_of
from service.gates.verdict import Outcome, Verdict

FEW = 3
"""Clips up to which each is shown in full."""
MOST_LINES = 20


def summary(run: Run, verdict: Verdict) -> list[RenderableType]:
    """What to print, in order."""
    parts: list[RenderableType] = []
    if len(run.rows) <= FEW:
        for row in run.rows:
            parts += _clip(row)
    else:
        parts.append(_groups(run, verdict))
    parts += _problems(run, verdict)
    if verdict.outcome is Outcome.PASSED and verdict.would_have_seen:
        parts.append(f"[dim]would have seen a fall of {escape(verdict.would_have_seen)}[/]")
    parts.append(_last_line(run, verdict))
    return parts


def _clip(row: Row) -> Iterator[RenderableType]:
    result = {"cosine": row.cosine, "match_probability": row.match_probability, "percentile": row.percentile}
    yield scores_table("Score", [(row.id, row.caption)], {"results": [result]})
    if row.attributes:
        rows = [
            (one.name, f"“{one.phrase}”", one.margin, "holds" if one.margin >= 0 else f"sounds more {one.heard}")
            for one in sorted(row.attributes, key=lambda one: one.margin)
        ]
        yield table("Attributes, the weakest first", ("attribute", "caption says", "margin", "against opposites"), rows)
    if len(row.sentences) > 1:
        rows_over_time = [
            (sentence.text, ", ".join(f"{start:.1f}-{end:.1f}" for start, end in sentence.holds) or "never")
            for sentence in row.sentences
        ]
        yield table("Sentences over time", ("sentence", "holds, s"), rows_over_time)


def _groups(run: Run, verdict: Verdict) -> Table:
    comparison = verdict.comparison
    cosines = [c for c in comparison.changes if c.measure == COSINE and c.subset is None] if comparison else []
    changed = {c.group: c for c in cosines}
    rows = []
    for group, members in groups_of(run.rows).items():
        change = changed.get(group)
        failed = any(breach.group == group for breach in verdict.breaches)
        rows.append(
            (
                group,
                len(members),
                fmean(row.match_probability for row in members),
                fmean(row.cosine for row in members),
                "" if change is None else f"{change.test.mean:+.3f}",
                "failed" if failed else "ok",
            )
        )
    return table("Groups", ("group", "items", "match", "cosine", "change", ""), rows)


def _problems(run: Run, verdict: Verdict) -> Iterator[str]:
    lines = [f"[red]not judged[/] {escape(one.id)}: {escape(one.reason)} ({escape(one.audio)})" for one in run.unjudged]
    for breach in verdict.breaches:
        missed = f" [bold]{escape(', '.join(breach.attributes))}[/]" if breach.attributes else ""
        worst = f"; worst: {escape(', '.join(breach.clips[:5]))}" if breach.id is None and breach.clips else ""
        lines.append(f"[red]{breach.gate}[/] {escape(breach.place)}: {escape(breach.message)}{missed}{worst}")
    yield from lines[:MOST_LINES]
    if len(lines) > MOST_LINES:
        yield f"... and {len(lines) - MOST_LINES} more in the report"
    if verdict.comparison is not None and verdict.comparison.small:
        few = ", ".join(f"{group} ({count})" for group, count in verdict.comparison.small.items())
        yield f"[dim]too few pairs to be asked about by themselves: {escape(few)}[/]"
    cut = cut_captions(run)
    if cut:
        yield f"[yellow]{escape(cut)}[/]"
    for where, what in headlines(run, verdict):
        yield f"[bold red]{escape(where)}[/]: {escape(what)}"
    for reason in verdict.undecided:
        yield f"[yellow]undecided[/]: {escape(reason)}"


def _last_line(run: Run, verdict: Verdict) -> str:
    total = len(run.rows) + len(run.unjudged)
    word = {
        Outcome.PASSED: "[bold green]passed[/]",
        Outcome.FAILED: "[bold red]failed[/]",
        Outcome.UNDECIDED: "[bold yellow]could not be judged[/]",
    }[verdict.outcome]
    identity = f" by {escape(run.rows[0].identity)}" if run.rows else ""
    return f"{word}: {len(run.rows)} of {total} clips judged ({run.coverage:.1%}){identity}"
