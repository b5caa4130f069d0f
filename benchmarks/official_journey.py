"""From a released folder to answers: export, serve, ingest and search, with the time and peak memory of each step.

    python benchmarks/official_journey.py CHECKPOINT BUNDLE CLIPS [--precision int8] [--count 20]

CHECKPOINT is a folder like the released one, BUNDLE is written, CLIPS is a folder of speech, read recursively, of which
`count` clips are ingested, evenly over their sorted paths; more of them go into the verification. Every step is the
`clsp` command that a user would type. What follows `--` goes to `clsp export official`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import soundfile

sys.path.insert(0, str(Path(__file__).parent))
from results import console, report

from training.audio import load_clip

CLSP = str(Path(sys.executable).with_name("clsp"))
AUDIO = {".flac", ".wav", ".ogg"}
COLUMNS = ("step", "wall s", "peak MiB", "what came out")
START_S = 600.0
RATE = 16000
LONG = "slowly and calmly " * 400  # past the text tower's 512 tokens, within the service's characters


@dataclass
class Journey:
    """The steps so far."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def run(self, step: str, *arguments: object) -> str:
        """Run `clsp` and keep its time and peak memory; returns what it printed. Exits when it fails."""
        begun = time.monotonic()
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen([CLSP, *map(str, arguments)], stdout=out, stderr=err)  # noqa: S603
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            err.seek(0)
            printed, said = out.read(), err.read()
        if process.returncode:
            sys.exit(f"{step} failed with status {process.returncode}:\n{said}{printed}")
        console.print(said, style="dim", highlight=False)
        self.add(step, time.monotonic() - begun, usage.ru_maxrss / 1024)
        return printed

    def add(self, step: str, wall_s: float, peak_mib: float, what: str = "") -> None:
        """Another row."""
        self.rows.append({"step": step, "wall s": round(wall_s, 1), "peak MiB": round(peak_mib), "what came out": what})

    def found(self, what: str) -> None:
        """What the last step gave."""
        self.rows[-1]["what came out"] = what


def main() -> int:
    """Print the table; JSON goes to benchmarks/results/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--hour", action="store_true", help="at last ingest one clip of an hour")
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:end])
    journey = Journey()
    where = ["--checkpoint", options.checkpoint, "--out", options.bundle, "--speech", options.clips]
    journey.run("export", "export", "official", *where, "--precision", options.precision, *arguments[end + 1 :])
    manifest = json.loads((options.bundle / "bundle.json").read_text())
    verified = manifest["verification"]
    size = sum(entry["bytes"] for entry in manifest["files"].values()) / 2**20
    journey.found(
        f"{size:.0f} MiB; cosine at the 1st percentile: speech {verified['speech']['p1_cosine']}, "
        f"text {verified['text']['p1_cosine']}; ranks {verified['rank_agreement']}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        clips = choose(options.clips, options.count, Path(scratch) / "clips")
        with served(journey, options.bundle, Path(scratch) / "data") as url:
            client = ["--url", url, "--json"]
            journey.run("ingest", "ingest", "speech", Path(scratch) / "clips", *client)
            stored = httpx.get(f"{url}/v1/collections/speech", timeout=60).json()
            journey.found(f"{stored['items']} of {len(clips)} clips")
            hits = json.loads(journey.run("search by text", "search", "speech", "A calm man.", *client))["hits"]
            journey.found(f"{len(hits)} hits")
            long = json.loads(journey.run("search by a long text", "search", "speech", LONG, *client))
            journey.found(f"cut at {manifest['max_tokens']} tokens, and said so" if long["truncated"] else "not cut")
            asked = clips[len(clips) // 2]
            hits = json.loads(journey.run("search by clip", "search", "speech", "--clip", asked, *client))["hits"]
            complete = long["truncated"] and stored["items"] == len(clips) and asked.stem in hits[0]["id"]
            journey.found(f"{asked.name} finds {hits[0]['id']} at {hits[0]['score']:.5f}, next {hits[1]['score']:.5f}")
            if options.hour:
                write_hour(clips, Path(scratch) / "hour" / "hour.flac")
                journey.run("ingest of an hour", "ingest", "hours", Path(scratch) / "hour", *client)
                stored = httpx.get(f"{url}/v1/collections/hours", timeout=60).json()
                journey.found(f"{stored['items']} clip, {stored['segments']} segments")
    name = f"official-journey-{options.precision}"
    report(name, f"From a released folder to answers, {options.precision}", COLUMNS, journey.rows)
    return 0 if complete else 1


def choose(folder: Path, count: int, out: Path) -> list[Path]:
    """Link `count` clips below `folder` into `out`, evenly over their sorted paths."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO)
    if len(found) < count:
        sys.exit(f"{folder} has {len(found)} clips ({', '.join(sorted(AUDIO))}), not {count}")
    out.mkdir()
    links = []
    for i in range(count):
        source = found[i * len(found) // count]
        links.append(out / source.name)
        links[-1].symlink_to(source.resolve())
    return links


def write_hour(clips: list[Path], path: Path) -> None:
    """An hour of the clips, one after the other, again and again."""
    path.parent.mkdir()
    with soundfile.SoundFile(path, "w", samplerate=RATE, channels=1) as hour:
        for clip in cycle(clips):
            samples = load_clip(clip)[: 3600 * RATE - hour.frames]
            hour.write(samples)
            if hour.frames >= 3600 * RATE:
                return


@contextmanager
def served(journey: Journey, bundle: Path, data: Path) -> Iterator[str]:
    """`clsp serve` on the bundle, from its start to its stop; its row says how long it took to be ready."""
    command = [CLSP, "serve", "--bundle", str(bundle), "--data-dir", str(data), "--port", "0"]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        with log.open("w") as written:
            process = subprocess.Popen(command, stderr=written, stdout=written)  # noqa: S603
        try:
            url = await_ready(process, log, begun + START_S)
            ready = time.monotonic() - begun
            yield url
            peak = next(
                int(line.split()[1]) / 1024
                for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
                if line.startswith("VmHWM")
            )
            journey.add("serve (ready after, peak over all)", ready, peak)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(120)


def await_ready(process: subprocess.Popen[bytes], log: Path, give_up: float) -> str:
    """The address of a service that started, once it is ready. Exits when it ends or takes too long."""
    url = ""
    while time.monotonic() < give_up and process.poll() is None:
        printed = log.read_text().lower()
        if not url and "running on http" in printed:
            url = "http" + printed.split("running on http", 1)[1].split()[0]
        if url and httpx.get(f"{url}/readyz", timeout=60).status_code == 200:
            return url
        time.sleep(0.2)
    sys.exit(f"the service did not start:\n{log.read_text()}")


if __name__ == "__main__":
    sys.exit(main())
