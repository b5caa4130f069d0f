"""Turns the results of index_scale.py, index_large.py and index_http.py into the tables and plots of docs/index.md.

python benchmarks/index_publish.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from index_large import COLUMNS as LARGE
from index_scale import COLUMNS
from plot import line_plot
from publish import filled
from results import RESULTS, ROOT

PAGE = ROOT / "docs" / "index.md"
PLOTS = ROOT / "docs" / "plots"
HTTP = (*("vectors", "index p50 ms", "HTTP p50 ms", "HTTP adds ms", "index p99 ms", "HTTP p99 ms"), "ready s", "lost")


def main() -> int:
    """Rewrite what lies between the page's markers, for each result that is there."""
    page = PAGE.read_text("utf-8")
    PLOTS.mkdir(exist_ok=True)
    for name, columns in (("index_scale", COLUMNS), ("index_large", LARGE), ("index_http", HTTP)):
        page, _ = filled(page, name, columns)
    PAGE.write_text(page, "utf-8")
    curves = RESULTS / "index_curves.json"
    if curves.exists():
        _plot(json.loads(curves.read_text("utf-8"))["rows"])
    return 0


def _plot(rows: list[dict[str, Any]]) -> None:
    for size in sorted({row["vectors"] for row in rows}):
        here = [row for row in rows if row["vectors"] == size]
        systems = dict.fromkeys(row["what"] for row in here)
        lines = {
            name: [(row["recall@10"], row["p50 ms"]) for row in here if row["what"] == name and row["recall@10"] >= 0.5]
            for name in systems
        }
        svg = line_plot(f"{size:,} vectors: p50 against recall", "recall@10", "p50, ms", lines, log_x=False)
        (PLOTS / f"index-recall-{size}.svg").write_text(svg, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
