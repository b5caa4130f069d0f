"""Lines on logarithmic axes as SVG, which every browser and code host shows: no plotting library is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]
_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 200, 40, 55
_MOST_TICKS = 12
_COLOURS = ("#0b6e99", "#c0504d", "#4f8a10", "#8064a2", "#d98400", "#444444", "#00897b")


def line_plot(title: str, x_label: str, y_label: str, lines: Mapping[str, Points], *, log_x: bool = True) -> str:
    """An SVG document. Each line is points (x, y) above zero; y is logarithmic, x where `log_x`."""
    lines = {name: [p for p in points if p[1] > 0 and math.isfinite(p[1])] for name, points in lines.items()}
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    scale_x = math.log10 if log_x else float
    x_low, x_high = scale_x(min(xs)), scale_x(max(xs))
    y_low, y_high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    across = (_WIDTH - _LEFT - _RIGHT) / ((x_high - x_low) or 1)
    up = (_HEIGHT - _TOP - _BOTTOM) / ((y_high - y_low) or 1)

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + (scale_x(x) - x_low) * across, _HEIGHT - _BOTTOM - (math.log10(y) - y_low) * up

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>',
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text x="16" y="{_HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 16 {_HEIGHT / 2})">'
        f"{escape(y_label)}</text>",
    ]
    for power in range(y_low, y_high + 1):
        _, y = at(min(xs), 10.0**power)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    ticks = sorted(set(xs))
    if len(ticks) > _MOST_TICKS and not log_x:
        ticks = [round(x_low + (x_high - x_low) * i / 5, 3) for i in range(6)]
    for tick in ticks:
        x, _ = at(tick, 10.0**y_low)
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{tick:g}</text>')
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [at(x, y) for x, y in sorted(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dash = ' stroke-dasharray="5 4"' if "p50" in name else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        y = _TOP + 10 + 20 * number
        parts.append(
            f'<line x1="{_WIDTH - _RIGHT + 12}" x2="{_WIDTH - _RIGHT + 36}" y1="{y}" y2="{y}" stroke="{colour}"{dash}/>'
        )
        parts.append(f'<text x="{_WIDTH - _RIGHT + 42}" y="{y + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
