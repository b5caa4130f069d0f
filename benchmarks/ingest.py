"""What a bulk ingest job reaches of the encoder alone: reading, decoding, encoding and storing should overlap.

    python benchmarks/ingest.py [files]

The baseline is `BundleRuntime` in this process on the same clips, decoded beforehand, in full batches of similar
lengths; it runs before and after each job, and the job is compared with the mean of the two. Processor time is
compared too: it carries over where the machine is shared.
"""

from __future__ import annotations

import io
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile

sys.path.insert(0, str(Path(__file__).parent))
from results import BUNDLE, report
from workloads import Bare, Measured, waves

from clsp_client import Client
from service.cli.local_server import local_server

FORMATS = {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS")}
FILES = 300
BARE_S = 12.0


def main() -> int:
    """Measure one job for each format, and print them next to the encoder alone."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else FILES
    bare = Bare()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="clsp-ingest-") as scratch:
        root = Path(scratch) / "root"
        for name in FORMATS:
            _write(root / name, name, count)
        # Most of the data folder's disk is the kept audio: the default, and so part of what is measured.
        with local_server(bundle=BUNDLE, environment={"CLSP_INGEST_ROOTS": str(root)}) as server:
            for name in FORMATS:
                before = bare.clips(BARE_S)
                rows.append(_job(server.url, server.pid, name))
                _compare(rows[-1], before, bare.clips(BARE_S))
    columns = ("job", "clips", "audio s", "seconds", "x real time", "encoder x", "ratio", "cpu ratio", "peak MB")
    report("ingest", f"Bulk ingest of {count} files, next to the encoder alone", columns, rows)
    return 0


def _write(folder: Path, name: str, count: int) -> None:
    """Files that all differ: the example library's clips, each with a sample of its own."""
    folder.mkdir(parents=True)
    base, (container, subtype) = waves(), FORMATS[name]
    for number in range(count):
        wave = np.clip(base[number % len(base)], -1, 1).copy()
        wave[number] = 0.1 + 0.001 * (number // len(base))
        buffer = io.BytesIO()
        with soundfile.SoundFile(buffer, "w", 16_000, 1, subtype=subtype, format=container) as file:
            for start in range(0, len(wave), 4096):
                file.write(wave[start : start + 4096])
        (folder / f"{number:04}.{name}").write_bytes(buffer.getvalue())


def _job(url: str, pid: int, name: str) -> dict[str, Any]:
    process = psutil.Process(pid)
    peak = 0

    def sample(job: Any) -> None:
        nonlocal peak
        peak = max(peak, process.memory_info().rss)

    with Client(url) as client:
        client.create_collection(name)
        began = sum(process.cpu_times()[:2])
        job = client.wait_job(client.start_ingest(name, f"root/{name}")["id"], progress=sample, every_s=0.2)
        spent = sum(process.cpu_times()[:2]) - began
    if job["encoded"] != job["total"]:
        raise RuntimeError(f"the job did not encode every clip: {job}")
    seconds = (_time(job["ended_at"]) - _time(job["started_at"])).total_seconds()
    return {
        "job": f"folder of {name}",
        "clips": job["encoded"],
        "audio s": job["audio_s"],
        "seconds": seconds,
        "x real time": job["audio_s"] / seconds,
        "cpu": spent / job["audio_s"],
        "peak MB": round(peak / 1e6),
    }


def _time(text: str | None) -> datetime:
    return datetime.fromisoformat(text or "")


def _compare(row: dict[str, Any], before: Measured, after: Measured) -> None:
    alone = (before.per_second + after.per_second) / 2
    row["encoder x"] = alone
    row["ratio"] = row["x real time"] / alone
    row["cpu ratio"] = (before.cpu_s + after.cpu_s) / 2 / row["cpu"]


if __name__ == "__main__":
    sys.exit(main())
