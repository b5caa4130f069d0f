"""A report as a table that people read: Markdown, one row a source and measure, each next to its chance."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

HEADS = ("measure", "clips", "value", "95 % interval", "chance")


def figure_rows(tasks: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row a measure of one source. Values are percent, but for correlations (r)."""
    for task, rows in tasks.items():
        if not isinstance(rows, dict):
            continue
        for measure, value in rows.items():
            if not isinstance(value, dict):
                continue
            named = {measure: value} if "low" in value else {}
            if not named and "R@1" in value:
                named = {f"{measure.replace('_', ' ')} {name}": one for name, one in value.items()}
            for name, one in named.items():
                interval = f"{one['low']:g} to {one['high']:g}"
                chance = f"{one['chance']:g}" if "chance" in one else ""
                yield f"{task.replace('_', ' ')} {name}", f"{rows['clips']}", f"{one['value']:g}", interval, chance


def markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown: what was judged, what was not, and the figures of each source."""
    bundle, coverage = report["bundle"], report["coverage"]
    lines = [
        f"# {bundle['name']} {bundle['version']} on {report['data']}",
        "",
        f"Bundle `{bundle['fingerprint'][:16]}`, {bundle['precision']} weights. {coverage['judged']} of "
        f"{coverage['of']} clips were judged. Percent, r from -1 to 1; intervals from drawing {report['resampled']}.",
    ]
    told = list(report["notes"])
    for title, names in (("Not judged", coverage["refused"]), ("Missing", coverage["missing"])):
        told += [f"{title}: {len(names)}, such as {names[0]}"] if names else []
    lines += ["", *(f"- {note}" for note in told)] if told else []
    for source, tasks in report["sources"].items():
        lines += ["", f"## {title_of(source, tasks)}", ""]
        lines += [_line(HEADS), _line(["---"] * len(HEADS)), *(_line(row) for row in figure_rows(tasks))]
    return "\n".join([*lines, ""])


def title_of(source: str, tasks: Mapping[str, Any]) -> str:
    """A source and how much of it there is."""
    speakers = f", {tasks['speakers']} speakers" if tasks["speakers"] else ""
    return f"{source}: {tasks['clips']} clips{speakers}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
