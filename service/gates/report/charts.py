"""Small drawings of a run as SVG: distributions, intervals, and a clip over time."""

from __future__ import annotations

from collections.abc import Sequence

from service.gates.report.sound import Sound
from service.gates.rows import Row
from service.gates.statistics import histogram

WIDTH, HEIGHT = 320.0, 140.0
_LEFT, _BOTTOM = 28.0, 18.0
BINS = 20
MOST_CURVES = 4
"""Sentences that are drawn each in its own colour; more would be a knot."""


def distribution(now: Sequence[float], before: Sequence[float] | None) -> str:
    """Match probabilities of this run as bars, of the baseline as a line; both as shares of their clips."""
    edges = [i / BINS for i in range(BINS + 1)]
    shares = _shares(now, edges)
    earlier = _shares(before, edges) if before else None
    top = max([*shares, *(earlier or []), 1e-9])
    wide, high = (WIDTH - _LEFT) / BINS, HEIGHT - _BOTTOM - 8
    parts = [_svg(WIDTH, HEIGHT, "Distribution of match probabilities")]
    parts += [_bar(_LEFT + i * wide, wide, high * share / top) for i, share in enumerate(shares)]
    if earlier is not None:
        steps = []
        for i, share in enumerate(earlier):
            y = HEIGHT - _BOTTOM - high * share / top
            steps += [f"{_LEFT + i * wide:.1f},{y:.1f}", f"{_LEFT + (i + 1) * wide:.1f},{y:.1f}"]
        parts.append(f'<polyline class="line-then" points="{" ".join(steps)}"/>')
    base = HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" y1="{base}" x2="{WIDTH}" y2="{base}"/>')
    for value in (0.0, 0.5, 1.0):
        anchor = {0.0: "start", 1.0: "end"}.get(value, "middle")
        x = _LEFT + value * (WIDTH - _LEFT)
        parts.append(f'<text x="{x:.0f}" y="{HEIGHT - 4:.0f}" text-anchor="{anchor}">{value:g}</text>')
    parts.append(f'<text x="0" y="14">{top:.0%}</text></svg>')
    return "".join(parts)


def changes(values: Sequence[float]) -> str:
    """Each clip's change of cosine since the baseline, as a strip of ticks around zero."""
    reach = max((abs(value) for value in values), default=0.0) or 0.01
    edges = [-reach + 2 * reach * i / BINS for i in range(BINS + 1)]
    shares = _shares(values, edges)
    top = max([*shares, 1e-9])
    wide, high = WIDTH / BINS, HEIGHT - _BOTTOM - 8
    parts = [_svg(WIDTH, HEIGHT, "Distribution of changes of cosine since the baseline")]
    parts += [_bar(i * wide, wide, high * share / top) for i, share in enumerate(shares)]
    base = HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="0" y1="{base}" x2="{WIDTH}" y2="{base}"/>')
    parts.append(f'<line class="zero" x1="{WIDTH / 2}" y1="4" x2="{WIDTH / 2}" y2="{base}"/>')
    for x, value, anchor in ((0.0, -reach, "start"), (WIDTH / 2, 0.0, "middle"), (WIDTH, reach, "end")):
        shown = f"{value:+.2f}" if value else "0"
        parts.append(f'<text x="{x:.0f}" y="{HEIGHT - 4:.0f}" text-anchor="{anchor}">{shown}</text>')
    parts.append("</svg>")
    return "".join(parts)


def interval(low: float, mean: float, high: float, reach: float, *, fell: bool) -> str:
    """A mean with its confidence interval around zero; `reach` is the largest value of all intervals in a table."""

    def place(value: float) -> float:
        return 80 + 76 * max(-1.0, min(1.0, value / (reach or 1.0)))

    kind = " fell" if fell else ""
    return (
        f"{_svg(160, 16, f'{mean:+.3f}, from {low:+.3f} to {high:+.3f}')}"
        '<line class="zero" x1="80" y1="0" x2="80" y2="16"/>'
        f'<line class="interval{kind}" x1="{place(low):.1f}" y1="8" x2="{place(high):.1f}" y2="8"/>'
        f'<circle class="mean{kind}" cx="{place(mean):.1f}" cy="8" r="4"/></svg>'
    )


def over_time(row: Row, sound: Sound) -> str:
    """The waveform, with the similarity over time on top: one curve a sentence, or the caption's where it is one."""
    wide, high = 1000.0, 120.0
    step = wide / len(sound.peaks)
    middle = high * 0.5
    upper = " ".join(f"{i * step + step / 2:.1f},{middle - 44 * peak:.1f}" for i, peak in enumerate(sound.peaks))
    lower = " ".join(
        f"{i * step + step / 2:.1f},{middle + 44 * peak:.1f}" for i, peak in reversed(list(enumerate(sound.peaks)))
    )
    parts = [
        f'<svg viewBox="0 0 {wide:g} {high:g}" preserveAspectRatio="none" aria-hidden="true">',
        f'<polygon class="wave" points="{upper} {lower}"/>',
    ]
    low, top = curve_range(row)
    times = [(start + end) / 2 for start, end, _ in row.curve]
    for number, values in enumerate(_curves(row)):
        points = [
            f"{wide * min(1.0, at / sound.duration_s):.1f},{high - 8 - (high - 16) * (value - low) / (top - low):.1f}"
            for at, value in zip(times, values, strict=True)
        ]
        if len(points) > 1:
            parts.append(f'<polyline class="curve s{number}" points="{" ".join(points)}"/>')
    for at_s, strength in row.turns:
        if strength >= 1:
            x = wide * at_s / sound.duration_s
            parts.append(f'<line class="turn" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{high:g}"/>')
    return "".join(parts) + "</svg>"


def lane(spans: Sequence[tuple[float, float]], duration_s: float) -> str:
    """When a sentence holds, as stretches of a line."""
    wide = 1000.0
    drawn = "".join(
        f'<rect x="{wide * start / duration_s:.1f}" width="{wide * (end - start) / duration_s:.1f}" y="0" height="10"/>'
        for start, end in spans
    )
    return f'<svg viewBox="0 0 {wide:g} 10" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'


def curve_range(row: Row) -> tuple[float, float]:
    """Lowest and highest cosine that `over_time` draws, never so close that noise looks like a change."""
    values = [value for curve in _curves(row) for value in curve] or [0.0]
    low, top = min(values), max(values)
    spread = max(0.1, (top - low) * 1.1)
    middle = (low + top) / 2
    return middle - spread / 2, middle + spread / 2


def _curves(row: Row) -> list[Sequence[float]]:
    if len(row.sentences) > 1:
        return [sentence.curve for sentence in row.sentences[:MOST_CURVES]]
    return [[cosine for _, _, cosine in row.curve]] if row.curve else []


def _bar(left: float, wide: float, tall: float) -> str:
    y = HEIGHT - _BOTTOM - tall
    return f'<rect class="bar-now" x="{left + 1:.1f}" y="{y:.1f}" width="{wide - 2:.1f}" height="{tall:.1f}"/>'


def _shares(values: Sequence[float], edges: Sequence[float]) -> list[float]:
    counts = histogram(values, edges)
    return [count / max(1, len(values)) for count in counts]


def _svg(wide: float, high: float, label: str) -> str:
    return f'<svg viewBox="0 0 {wide:g} {high:g}" role="img" aria-label="{label}">'
