"""Memory does not know how long a manifest is: synthetic lines through the whole pipeline and through each pass.

Ten million lines are for benchmarks/annotate_memory.py, which does the same.
"""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from annotate_memory import annotate_lines, grown, passes, write_lines


def test_the_pipeline_on_synthetic_lines(tmp_path: Path) -> None:
    seen, _ = annotate_lines(12_000, tmp_path)
    assert grown(seen) < 12, seen


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_pipeline_on_a_million_lines(tmp_path: Path) -> None:
    seen, pace = annotate_lines(1_000_000, tmp_path)
    print(json.dumps({"rows_a_second": round(pace), "MiB": [round(m) for _, m in seen]}))
    assert grown(seen) < 24, seen


def test_passes_over_a_manifest(tmp_path: Path) -> None:
    write_lines(tmp_path / "m.jsonl", 20_000)
    told = passes(tmp_path / "m.jsonl", 20_000)
    assert all(growth < 8 for growth, _ in told.values()), told


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_passes_over_a_million_lines(tmp_path: Path) -> None:
    write_lines(tmp_path / "m.jsonl", 1_000_000)
    told = passes(tmp_path / "m.jsonl", 1_000_000)
    print(json.dumps(told))
    assert all(growth < 16 for growth, _ in told.values()), told
