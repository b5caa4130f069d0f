"""Memory of the captions' commands by the length of the manifest, on synthetic lines.

    python benchmarks/annotate_memory.py lines 10000000 --folder DIR     # `clsp annotate`, ledger, output and report
    python benchmarks/annotate_memory.py passes 10000000 --folder DIR    # estimate, sample, shards, report, resume

Every line is a clip of its own to the ledger, and gets its caption from an annotator that takes no time: what remains
is our own work, whose pace an endpoint never reaches. Needs about 1 kB of disk a line.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile

sys.path.insert(0, str(Path(__file__).parent))
from results import console, report

from training.captions.annotator import Identity, Keep, Kind, Reply
from training.captions.cost import measure_manifest
from training.captions.filter_report import Report
from training.captions.formats import Row, read_rows
from training.captions.ledger import Ledger, Question
from training.captions.pipeline import Plan
from training.captions.run import Source, annotate
from training.captions.sampling import smallest
from training.captions.shards import plan_shards, read_shard
from training.captions.utterance import Utterance

MIB = 2**20
Seen = list[tuple[int, float]]  # (rows done, MiB of memory then)


class InstantAnnotator:
    """An endpoint that takes no time and many requests at once."""

    lengths: dict[Kind, tuple[int, int]] = {"short": (5, 200), "long": (5, 800)}  # noqa: RUF012
    concurrency = 512

    def identity(self, clip: Utterance, kind: Kind) -> Identity:
        """Every line is a question of its own."""
        return Identity("instant", f"{kind}-{clip.id}")

    async def prepare(self, clip: Utterance) -> None:
        """Nothing to prepare."""

    async def caption(self, prepared: None, clip: Utterance, kind: Kind, question: Question, keep: Keep) -> Reply:
        """A caption that keeps the rules."""
        reply = Reply(f"A calm voice, {clip.id}.")
        await keep(reply)
        return reply


def synthetic(count: int, audio: str) -> Iterator[Row]:
    """Rows as a reader gives them."""
    return ({"id": f"line{i:09d}", "path": audio, "duration_s": 4.2, "speaker": f"s{i % 9973}"} for i in range(count))


def annotate_lines(
    count: int, folder: Path, *, points: int = 20, tell: Callable[[int, float], None] = lambda rows, mib: None
) -> tuple[Seen, float]:
    """Annotates so many lines into a folder -> memory at `points` points along the way, and rows a second."""
    folder.mkdir(parents=True, exist_ok=True)
    audio = folder / "clip.wav"
    soundfile.write(audio, 0.1 * np.sin(np.arange(6400) * 0.05), 16000)
    process, seen, rows = psutil.Process(), list[tuple[int, float]](), 0

    def tick(_: Row) -> None:
        nonlocal rows
        rows += 1
        if rows % (count // points) == 0:
            seen.append((rows, process.memory_info().rss / MIB))
            tell(*seen[-1])

    ledger = Ledger(folder / "ledger.sqlite")
    plan = Plan({"short": 1, "long": 0}, InstantAnnotator.lengths)
    source = Source("synthetic", {"lines": count}, lambda skip: islice(synthetic(count, str(audio)), skip, None))
    started = time.monotonic()
    try:
        done = asyncio.run(annotate(source, folder / "out.jsonl", InstantAnnotator(), ledger, plan, tick=tick))
    finally:
        ledger.close()
    if done.rows != count or done.report is None or done.report.kept["short"] != count:
        raise RuntimeError(f"not every line has its caption: {done}")
    return seen, count / (time.monotonic() - started)


def grown(seen: Seen) -> float:
    """MiB between a quarter of the way, when everything has been warm for long, and the end."""
    return max(mib for _, mib in seen[-3:]) - max(mib for _, mib in seen[3:6])


def write_lines(path: Path, count: int) -> None:
    """A manifest of so many lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        file.writelines(
            f'{{"id":"line{i:09d}","path":"a.wav","duration_s":4.2,"speaker":"s{i % 9973}"}}\n' for i in range(count)
        )


def passes(manifest: Path, count: int) -> dict[str, tuple[float, int]]:
    """Every pass over a manifest that the commands make -> MiB that memory grew by, and rows a second."""
    process = psutil.Process()
    told: dict[str, tuple[float, int]] = {}

    def one(name: str, wanted: Any, work: Callable[[], Any]) -> None:
        before, started = process.memory_info().rss, time.monotonic()
        found = work()
        told[name] = (round((process.memory_info().rss - before) / MIB, 1), round(count / (time.monotonic() - started)))
        if found != wanted:
            raise RuntimeError(f"{name}: {found!r} instead of {wanted!r}")

    some = min(700, count)
    smallest(islice(read_rows(manifest), 1000), some)  # warm
    one("estimate", count, lambda: measure_manifest(read_rows(manifest), 30.0)[0])
    one("sample", some, lambda: len(smallest(read_rows(manifest), some)))
    one("shards", count, lambda: sum(1 for shard in plan_shards(manifest, 64) for _ in read_shard(shard)))
    one("report", count, lambda: Report.of(read_rows(manifest)).clips)
    one("resume", f"line{count - 1:09d}", lambda: next(read_rows(manifest, skip=count - 1))["id"])
    return told


def main() -> int:
    """Runs one of the two, prints and writes its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("lines", "passes"))
    parser.add_argument("count", type=int)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    if given.what == "passes":
        manifest = given.folder / f"{given.count}.jsonl"
        write_lines(manifest, given.count)
        rows = [{"pass": n, "MiB more": m, "lines/s": p} for n, (m, p) in passes(manifest, given.count).items()]
        report("annotate-passes", f"{given.count:,} lines", ("pass", "MiB more", "lines/s"), rows)
        return 0
    folder = given.folder / str(given.count)
    seen, pace = annotate_lines(given.count, folder, tell=lambda rows, mib: console.print(f"{rows:,}: {mib:.0f} MiB"))
    disk = {name: (folder / name).stat().st_size / MIB for name in ("ledger.sqlite", "out.jsonl")}
    report("annotate-lines", f"{pace:.0f} lines/s, {disk}", ("lines", "MiB"), [{"lines": n, "MiB": m} for n, m in seen])
    return 0


if __name__ == "__main__":
    sys.exit(main())
