"""From a checkpoint folder to answers, by commands alone: export, serve, ingest, search. Small, and whole when slow."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from model_export.bundle import Bundle
from tests.support.make_checkpoint import load_draw, read_keys, write_checkpoint, write_tokenizer
from tests.support.paths import ROOT

MIB_OF_12_GB = 12e9 / 2**20


def journey(folder: Path, bundle: Path, clips: Path, *options: str) -> list[dict[str, object]]:
    """Run the script; returns its steps."""
    script = [sys.executable, str(ROOT / "benchmarks" / "official_journey.py"), str(folder), str(bundle), str(clips)]
    done = subprocess.run([*script, *options], capture_output=True, text=True, cwd=bundle.parent)
    assert done.returncode == 0, done.stderr + done.stdout
    precision = options[options.index("--precision") + 1]
    rows: list[dict[str, object]] = json.loads(
        (ROOT / "benchmarks" / "results" / f"official-journey-{precision}.json").read_text()
    )["rows"]
    return rows


def test_small_checkpoint_answers(reference: Path, shared: Path, tmp_path: Path) -> None:
    folder, bundle = tmp_path / "released", tmp_path / "bundle"
    write_checkpoint(folder, read_keys(reference, "small"), load_draw(reference), shards=2)
    write_tokenizer(folder, size=400)
    quick = ["--", "--config", str(reference / "config_small.json"), "--library", "20", "--longest-s", "1"]
    rows = journey(folder, bundle, shared / "data" / "fsdd", "--precision", "fp32", "--count", "5", *quick)
    steps = {str(row["step"]): str(row["what came out"]) for row in rows}
    assert steps["ingest"] == "5 of 5 clips"
    assert steps["search by text"] == "5 hits"
    assert steps["search by a long text"] == "cut at 128 tokens, and said so"
    assert Bundle.load(bundle).manifest.verification["real_speech_clips"] == 20


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_official_checkpoint_answers(reference: Path, shared: Path, tmp_path: Path) -> None:
    """20 clips of real speech, every step under 12 GB."""
    folder, bundle = tmp_path / "released", tmp_path / "bundle"
    write_checkpoint(folder, read_keys(reference, "official"), load_draw(reference), shards=4)
    write_tokenizer(folder, size=500)
    quick = ["--", "--library", "24", "--longest-s", "5"]
    rows = journey(folder, bundle, shared / "data" / "librispeech", "--precision", "int8", *quick)
    steps = {str(row["step"]): str(row["what came out"]) for row in rows}
    assert steps["ingest"] == "20 of 20 clips"
    assert steps["search by a long text"] == "cut at 512 tokens, and said so"
    assert all(float(str(row["peak MiB"])) < MIB_OF_12_GB for row in rows)
