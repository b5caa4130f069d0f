"""Turns benchmarks/results/*.json into the tables and plots of docs/performance.md, docs/gates.md and docs/search.md.

python benchmarks/publish.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from plot import line_plot
from results import RESULTS, ROOT

PAGES = tuple(ROOT / "docs" / f"{name}.md" for name in ("performance", "gates", "search"))
PLOTS = ROOT / "docs" / "plots"
TABLES: dict[str, tuple[str, ...]] = {
    "load_summary": ("what", "value"),
    "load": ("workload", "clients", "per second", "units a second", "p50 ms", "p99 ms", "refused", "lost", "other"),
    "load_open": (
        *("workload", "load", "offered a second", "per second", "goodput / peak", "p50 ms", "p99 ms", "p99 / single"),
        *("ideal p99 / single", "ok", "refused", "refusal p99 ms", "late", "lost", "other"),
    ),
    "load_others": ("server", "clients", "per second", "p50 ms", "p99 ms", "cpu ms / request", "lost", "other"),
    "batch_audio": ("batch_audio_s", "resident MB", "cpu ms / s of audio"),
    "ingest": ("job", "clips", "audio s", "seconds", "x real time", "encoder x", "ratio", "cpu ratio", "peak MB"),
    "gate_alarms": (
        *("lines a voice", "confidence", "reruns", "false alarms of 100", "drift found %", "both voices named %"),
        *("pitch and rate named %", "another voice named %"),
    ),
    "relevance": ("wish", "asked as", "mAP", "P@1", "mAP, filtered", "P@1, filtered"),
    "relevance_diversity": ("asked as", "voices in 5", "right", "voices in 5, filtered", "right, filtered"),
    "soak": ("minute", "per second", "p50 ms", "p99 ms", "ok", "refused", "lost", "other", "MB", "files", "threads"),
}


def main() -> int:
    """Rewrite what lies between the pages' markers, for each result that is there."""
    PLOTS.mkdir(exist_ok=True)
    for path in PAGES:
        page = path.read_text("utf-8")
        for name, columns in TABLES.items():
            page, rows = filled(page, name, columns)
            if rows:
                _plot(name, rows)
        path.write_text(page, "utf-8")
    return 0


def filled(page: str, name: str, columns: Sequence[str]) -> tuple[str, list[dict[str, Any]]]:
    """The page with a result's table between the markers of its name, and its rows; none where it was not measured."""
    path = RESULTS / f"{name}.json"
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if not path.exists() or begin not in page:
        return page, []
    result = json.loads(path.read_text("utf-8"))
    head, rest = page.split(begin)
    _, tail = rest.split(end)
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    return f"{head}{begin}\n{markdown(columns, result['rows'])}\n\nMachine: {machine}.\n{end}{tail}", result["rows"]


def markdown(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a table in Markdown."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"


def _plot(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if name == "load":
        kinds = list(dict.fromkeys(row["workload"] for row in rows))
        for figure, column, label in (("p99", "p99 ms", "p99, ms"), ("throughput", "units a second", "units a second")):
            lines = {k: [(r["clients"], r[column]) for r in rows if r["workload"] == k] for k in kinds}
            _write(f"closed-{figure}", line_plot(f"Closed loop: {label}", "clients", label, lines))
    if name == "load_open":
        lines = {}
        for kind in dict.fromkeys(row["workload"] for row in rows):
            for share in ("p50", "p99"):
                lines[f"{kind}, {share}"] = [(r["load"], r[f"{share} ms"]) for r in rows if r["workload"] == kind]
        title = "Open loop: time of answered requests against load"
        _write("open-latency", line_plot(title, "offered load / peak", "ms", lines))
    if name == "load_others":
        servers = list(dict.fromkeys(row["server"] for row in rows))
        for figure, column in (("throughput", "per second"), ("p99", "p99 ms")):
            lines = {s: [(r["clients"], r[column]) for r in rows if r["server"] == s] for s in servers}
            _write(f"others-{figure}", line_plot(f"One text a request: {column}", "clients", column, lines))


def _write(name: str, svg: str) -> None:
    (PLOTS / f"{name}.svg").write_text(svg, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
