"""The run as Markdown: a comment on a merge or pull request, and GitHub's step summary."""

from __future__ import annotations

from service.gates.report.headline import cut_captions, headlines
from service.gates.rows import Run
from service.gates.verdict import Outcome, Verdict

_TITLES = {
    Outcome.PASSED: "✅ Style gate passed",
    Outcome.FAILED: "❌ Style gate failed",
    Outcome.UNDECIDED: "⚠️ Style gate could not judge the set",
}
MOST_ROWS = 20


def markdown(run: Run, verdict: Verdict, *, gates: str) -> str:
    """Verdict, what failed, the clips that fell furthest, what was asked and what would have been seen."""
    total = len(run.rows) + len(run.unjudged)
    lines = [
        f"### {_TITLES[verdict.outcome]}",
        "",
        f"{len(run.rows)} of {total} clips judged. Gates: {_safe(gates)}.",
        "",
    ]
    lines += [f"- **undecided**: {_safe(reason)}" for reason in verdict.undecided]
    told = headlines(run, verdict)
    lines += [f"- **{_safe(where)}**: {_safe(what)}" for where, what in told[:MOST_ROWS]]
    if len(told) > MOST_ROWS:
        lines.append(f"- ... and {len(told) - MOST_ROWS} more in the report")
    if cut := cut_captions(run):
        lines.append(f"- {_safe(cut)}")
    comparison = verdict.comparison
    fallen = sorted(comparison.pairs, key=lambda pair: pair.change) if comparison and verdict.breaches else []
    if fallen:
        lines += ["", "| clips that fell furthest | cosine before | now | caption |", "| --- | --- | --- | --- |"]
        for pair in fallen[:5]:
            cells = (pair.after.id, f"{pair.before.cosine:.3f}", f"{pair.after.cosine:.3f}", pair.after.caption)
            lines.append(f"| {' | '.join(map(_safe, cells))} |")
    if verdict.would_have_seen:
        lines += ["", f"Would have seen a fall of {_safe(verdict.would_have_seen)}."]
    return "\n".join(lines) + "\n"


def _safe(text: str) -> str:
    """Ids and captions are a set's own: no markup, link, mention or table cell may come of them."""
    flat = " ".join(text.split())
    escaped = "".join(f"\\{char}" if char in "\\`*_{}[]()#!|~" else char for char in flat)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "@\u200b")
