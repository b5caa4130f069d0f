"""Memory does not know how long a manifest is: synthetic lines through the whole pipeline and through each pass."""

import asyncio
import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest

from training.captions.annotator import Identity, Kind, Reply
from training.captions.cost import measure_manifest
from training.captions.filter_report import Report
from training.captions.formats import Row, read_rows
from training.captions.ledger import Ledger
from training.captions.pipeline import Plan
from training.captions.run import Source, annotate
from training.captions.sampling import smallest
from training.captions.shards import plan_shards, read_shard
from training.captions.utterance import Utterance

MIB = 2**20


class InstantAnnotator:
    """An endpoint that takes no time: what remains is our own work."""

    lengths: dict[Kind, tuple[int, int]] = {"short": (5, 200), "long": (5, 800)}  # noqa: RUF012
    concurrency = 64

    def identity(self, clip: Utterance, kind: Kind) -> Identity:
        return Identity("instant", f"{kind}-{clip.id}")  # every line is a question of its own

    async def prepare(self, clip: Utterance) -> None:
        return None

    async def caption(self, prepared: None, clip: Utterance, kind: Kind, seed: int) -> Reply:
        await asyncio.sleep(0)
        return Reply(f"A calm voice, number {clip.id}, speaking slowly.")


def synthetic(count: int, audio: str) -> Iterator[Row]:
    return ({"id": f"line{i:09d}", "path": audio, "duration_s": 4.2, "speaker": f"s{i % 9973}"} for i in range(count))


def annotate_lines(count: int, folder: Path, audio: str) -> tuple[list[tuple[int, float]], float]:
    """[(rows, MiB of memory)] along the way, and rows a second."""
    process = psutil.Process()
    seen: list[tuple[int, float]] = []
    rows = 0

    def tick(_: Row) -> None:
        nonlocal rows
        rows += 1
        if rows % (count // 20) == 0:
            seen.append((rows, process.memory_info().rss / MIB))

    ledger = Ledger(folder / "ledger.sqlite")
    plan = Plan({"short": 1, "long": 0}, InstantAnnotator.lengths)
    source = Source("synthetic", {"lines": count}, lambda skip: islice(synthetic(count, audio), skip, None))
    started = time.monotonic()
    try:
        done = asyncio.run(annotate(source, folder / "out.jsonl", InstantAnnotator(), ledger, plan, tick=tick))
    finally:
        ledger.close()
    assert done.rows == count
    assert done.report is not None
    assert done.report.kept["short"] == count
    return seen, count / (time.monotonic() - started)


def grown(seen: list[tuple[int, float]]) -> float:
    """MiB between a quarter of the way, when everything has been warm for long, and the end."""
    return max(m for _, m in seen[-3:]) - max(m for _, m in seen[3:6])


def test_the_pipeline_on_synthetic_lines(tmp_path: Path, clips: list[Row]) -> None:
    seen, _ = annotate_lines(12_000, tmp_path, clips[0]["path"])
    assert grown(seen) < 12, seen


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_pipeline_on_a_million_lines(tmp_path: Path, clips: list[Row]) -> None:
    seen, pace = annotate_lines(1_000_000, tmp_path, clips[0]["path"])
    print(json.dumps({"rows_a_second": round(pace), "MiB": [round(m) for _, m in seen]}))
    assert grown(seen) < 24, seen


def passes(manifest: Path, count: int) -> dict[str, Any]:
    """Every pass over a manifest that the commands make, with the growth of memory in each."""
    process = psutil.Process()
    told: dict[str, Any] = {}

    def one(name: str, work: Any) -> Any:
        before, started = process.memory_info().rss, time.monotonic()
        result = work()
        told[name] = (round((process.memory_info().rss - before) / MIB, 1), round(count / (time.monotonic() - started)))
        return result

    one("warm", lambda: smallest(islice(read_rows(manifest), 1000), 700))
    assert one("estimate", lambda: measure_manifest(read_rows(manifest), 30.0)[0]) == count
    assert len(one("sample", lambda: smallest(read_rows(manifest), 700))) == 700
    assert one("shards", lambda: sum(1 for s in plan_shards(manifest, 64) for _ in read_shard(s))) == count
    assert one("report", lambda: Report.of(read_rows(manifest)).clips) == count
    assert one("resume", lambda: next(read_rows(manifest, skip=count - 1))["id"]) == f"line{count - 1:09d}"
    return told


def write_lines(path: Path, count: int) -> None:
    with path.open("w") as file:
        file.writelines(
            f'{{"id":"line{i:09d}","path":"a.wav","duration_s":4.2,"speaker":"s{i % 9973}"}}\n' for i in range(count)
        )


def test_passes_over_a_manifest(tmp_path: Path) -> None:
    write_lines(tmp_path / "m.jsonl", 20_000)
    told = passes(tmp_path / "m.jsonl", 20_000)
    assert all(growth < 8 for name, (growth, _) in told.items() if name != "warm"), told


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_passes_over_ten_million_lines(tmp_path: Path) -> None:
    write_lines(tmp_path / "m.jsonl", 10_000_000)
    told = passes(tmp_path / "m.jsonl", 10_000_000)
    print(json.dumps(told))
    assert all(growth < 16 for name, (growth, _) in told.items() if name != "warm"), told
