"""A report as a table that people read: Markdown, one row a source and measure, each next to its chance."""

from collections.abc import Iterator, Mapping
from typing import Any

HEADS = ("source", "task", "clips", "measure", "value", "95 % interval", "chance")


def figure_rows(report: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row a measure. Values are percent, but for correlations."""
    for source, tasks in report["sources"].items():
        for task, rows in tasks.items():
            if not isinstance(rows, dict):
                continue
            for measure, value in rows.items():
                if not isinstance(value, dict):
                    continue
                nested = {measure: value} if "low" in value else {}
                if not nested and "R@1" in value:
                    nested = {f"{measure.replace('_', ' ')} {name}": one for name, one in value.items()}
                for name, one in nested.items():
                    interval = f"{one['low']:g} to {one['high']:g}"
                    chance = f"{one['chance']:g}" if "chance" in one else ""
                    yield (
                        source,
                        task.replace("_", " "),
                        f"{rows['clips']}",
                        name,
                        f"{one['value']:g}",
                        interval,
                        chance,
                    )


def markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown: what was judged, what was not, the figures."""
    bundle, coverage = report["bundle"], report["coverage"]
    lines = [
        f"# {bundle['name']} {bundle['version']} on {report['data']}",
        "",
        f"Bundle `{bundle['fingerprint'][:16]}`, {bundle['precision']} weights. {coverage['judged']} of "
        f"{coverage['of']} clips were judged. Intervals: 95 %, from drawing {report['resampled']}.",
        "",
    ]
    lines += [f"- {note}" for note in report["notes"]]
    for title, names in (("Not judged", coverage["refused"]), ("Missing", coverage["missing"])):
        if names:
            lines += [f"- {title}: {len(names)}, such as {names[0]}"]
    rows = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in figure_rows(report)]
    head = ["| " + " | ".join(HEADS) + " |", "| " + " | ".join("---" for _ in HEADS) + " |"]
    return "\n".join([*lines, "", *head, *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
