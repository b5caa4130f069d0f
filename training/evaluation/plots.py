"""Figures as SVG, which every browser and code host shows: confusion, intervals, reliability, ratings."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

INK, PALE, BLUE, RED = "#222", "#ddd", "#0b6e99", "#c0504d"


def write_plots(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw all that a report holds into `folder`; the files written."""
    made: dict[str, str] = {}
    names = _file_names(report["sources"])
    for source, tasks in report["sources"].items():
        for task, rows in tasks.items():
            name, title = f"{names[source]}-{_safe(task)}", f"{source}: {task.replace('_', ' ')}"
            if not isinstance(rows, dict):
                continue
            if "confusion" in rows:
                made[f"confusion-{name}"] = confusion_plot(title, rows["labels"], rows["confusion"])
            elif "reliability" in rows:
                made[f"reliability-{name}"] = reliability_plot(title, rows["reliability"], rows["ECE"])
            elif "r" in rows:
                made[f"ratings-{name}"] = scatter_plot(title, rows["pairs"], rows["r"])
        made[f"figures-{names[source]}"] = interval_plot(f"{source}, {tasks['clips']} clips", estimates(tasks))
    written = []
    for name, svg in made.items():
        written.append(folder / f"{name}.svg")
        written[-1].write_text(svg, encoding="utf-8")
    return written


def estimates(tasks: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float]]]:
    """Every measure of a source that has an interval and a chance level in percent, with its name."""
    found: list[tuple[str, Mapping[str, float]]] = []
    for task, rows in tasks.items():
        if isinstance(rows, dict):
            for name, part in rows.items():
                if isinstance(part, dict) and "chance" in part and name != "r":
                    found.append((f"{task} {name}", part))
                elif isinstance(part, dict) and "R@1" in part:
                    found += [(f"{task} {name} {measure}".replace("_", " "), one) for measure, one in part.items()]
    return found


def confusion_plot(title: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Rows are what is true, columns what was heard; a cell's shade is its share of the row, its number the count."""
    cell, left, top = 58, 110, 64
    parts = []
    for i, (label, row) in enumerate(zip(labels, counts, strict=True)):
        y, total = top + i * cell, sum(row)
        parts.append(_text(left - 8, y + cell / 2 + 4, label, "end"))
        parts.append(_text(left + i * cell + cell / 2, top - 8, label, "middle", size=11))
        for j, count in enumerate(row):
            share = count / total if total else 0.0
            x, dark = left + j * cell, share > 0.55
            parts.append(
                f'<rect x="{x}" y="{y}" width="{cell}" height="{cell}" fill="{BLUE}" fill-opacity="{share:.3f}" '
                f'stroke="{PALE}"><title>{escape(f"{label} heard as {labels[j]}")}: {count} of {total}</title></rect>'
            )
            parts.append(
                _text(x + cell / 2, y + cell / 2 - 2, f"{100 * share:.0f} %", "middle", "#fff" if dark else INK)
            )
            parts.append(_text(x + cell / 2, y + cell / 2 + 14, count, "middle", "#fff" if dark else "#777", size=10))
    bottom = top + len(labels) * cell + 24
    parts.append(_text(left + len(labels) * cell / 2, bottom - 4, "heard (rows: true)", "middle"))
    return _svg(title, left + len(labels) * cell + 20, bottom + 10, parts)


def interval_plot(title: str, rows: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """A dot and its 95 % interval a measure, in percent; the grey tick is chance."""
    left, width, step, top = 280, 420, 24, 44
    parts = [
        f'<line x1="{left + width * tick / 100}" x2="{left + width * tick / 100}" y1="{top}" '
        f'y2="{top + step * len(rows)}" stroke="{PALE}"/>'
        for tick in range(0, 101, 20)
    ]
    parts += [
        _text(left + width * tick / 100, top + step * len(rows) + 16, tick, "middle", size=11)
        for tick in range(0, 101, 20)
    ]
    for i, (name, one) in enumerate(rows):
        y = top + step * (i + 0.5)
        low, high, at, chance = (left + width * one[key] / 100 for key in ("low", "high", "value", "chance"))
        parts.append(_text(left - 10, y + 4, name, "end"))
        parts.append(
            f'<line x1="{chance:.1f}" x2="{chance:.1f}" y1="{y - 8}" y2="{y + 8}" stroke="#999" stroke-width="3"/>'
        )
        parts.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{BLUE}" stroke-width="3"/>')
        parts.append(f'<circle cx="{at:.1f}" cy="{y}" r="5" fill="{BLUE}"/>')
        parts.append(_text(left + width + 10, y + 4, f"{one['value']:g}", size=11))
    return _svg(title, left + width + 70, top + step * len(rows) + 30, parts)


def reliability_plot(title: str, bins: Sequence[tuple[float, float, int]], error: Mapping[str, float]) -> str:
    """Share of pairs that match against the probability that they were given; the diagonal is perfect."""
    note = f"expected calibration error {error['value']:g} % ({error['low']:g} to {error['high']:g})"
    most = max(count for _, _, count in bins)
    dots = [(x, y, 3 + 7 * count / most, f"{count} pairs") for x, y, count in bins]
    diagonal = [(0.0, 0.0), (1.0, 1.0)]
    return _square(title, note, ("match probability", "share that match"), (0, 1), (0, 1), dots, diagonal)


def scatter_plot(title: str, pairs: Sequence[Sequence[float]], r: Mapping[str, float]) -> str:
    """People's ratings against cosines."""
    note = f"r = {r['value']:g} ({r['low']:g} to {r['high']:g}), {len(pairs)} pairs"
    xs, ys = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    dots = [(x, y, 3.5, f"cosine {x:g}, rated {y:g}") for x, y in pairs]
    return _square(title, note, ("cosine", "rating"), (min(xs), max(xs)), (min(ys), max(ys)), dots)


def _square(
    title: str,
    note: str,
    axes: tuple[str, str],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    dots: Sequence[tuple[float, float, float, str]],
    line: Sequence[tuple[float, float]] = (),
) -> str:
    left, top, side = 64, 60, 340

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_range[0]) / ((x_range[1] - x_range[0]) or 1)
        up = (y - y_range[0]) / ((y_range[1] - y_range[0]) or 1)
        return left + side * across, top + side * (1 - up)

    parts = [
        _text(left, 44, note, size=11),
        f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" stroke="{PALE}"/>',
    ]
    for i in range(5):
        x, y = (low + (high - low) * i / 4 for low, high in (x_range, y_range))
        parts.append(_text(at(x, y_range[0])[0], top + side + 16, f"{x:.3g}", "middle", size=11))
        parts.append(_text(left - 6, at(x_range[0], y)[1] + 4, f"{y:.3g}", "end", size=11))
    if line:
        (x1, y1), (x2, y2) = (at(*point) for point in line)
        parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{RED}" stroke-dasharray="5 4"/>')
    for x, y, radius, told in dots:
        cx, cy = at(x, y)
        parts.append(
            f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{radius:.1f}" fill="{BLUE}" fill-opacity="0.7">'
            f"<title>{escape(told)}</title></circle>"
        )
    parts.append(_text(left + side / 2, top + side + 36, axes[0], "middle"))
    middle = top + side / 2
    parts.append(f'<g transform="rotate(-90 16 {middle})">{_text(16, middle, axes[1], "middle")}</g>')
    return _svg(title, left + side + 30, top + side + 50, parts)


def _text(x: float, y: float, text: object, anchor: str = "start", fill: str = INK, size: int = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" font-size="{size}"'
    return f"<text {place}>{escape(str(text))}</text>"


def _svg(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" '
        f'role="img" aria-label="{escape(title)}"><rect width="100%" height="100%" fill="#fff"/>'
    )
    return "\n".join([head, _text(16, 24, title, size=15), *parts, "</svg>", ""])


def _file_names(sources: Iterable[str]) -> dict[str, str]:
    """A name for each source's files; those that only letters tell apart that files can't have get a number."""
    names: dict[str, str] = {}
    for source in sources:
        name, count = _safe(source), 1
        while name in names.values():
            count += 1
            name = f"{_safe(source)}-{count}"
        names[source] = name
    return names


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip(".") or "source"
