"""What the benchmarks share: where things are, the machine's facts, tables and JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BUNDLE = ROOT / "models" / "clsp-small"
LIBRARY = ROOT / "examples" / "library"
console = Console(width=120) if not sys.stdout.isatty() else Console()


def machine() -> dict[str, Any]:
    """What a figure depends on."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "vectors": _widest_instructions(),
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def _widest_instructions() -> str:
    """What products are made with: int8 and fp32 sums differ several times between these."""
    information = Path("/proc/cpuinfo")
    flags = set(information.read_text("utf-8").split()) if information.exists() else set()
    return next((name for name in ("amx_int8", "avx512_vnni", "avx512f", "avx2") if name in flags), "unknown")


def report(name: str, title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as a table and write them, with the machine's facts, to benchmarks/results/<name>.json."""
    shown = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        shown.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        cells = [row.get(column, "") for column in columns]
        shown.add_row(*(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells))
    console.print(shown)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), "rows": list(rows)}, indent=1) + "\n", "utf-8")
    console.print(f"{path.relative_to(ROOT)}  {machine()}\n", style="dim", highlight=False)
