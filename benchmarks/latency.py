"""What the service adds to the model and what batching gives back, as ratios to a baseline of the same run.

The baseline is `BundleRuntime` called directly, one input at a time, in this process, before the service starts: no
HTTP, no decoding, no queue. Ratios carry over between machines; the milliseconds beside them do not.
"""

from __future__ import annotations

import base64
import concurrent.futures
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile
import soxr

sys.path.insert(0, str(Path(__file__).parent))
from results import BUNDLE, LIBRARY, report

from model_export.bundle import Bundle
from model_export.runtime import BundleRuntime
from service.cli.common import Client
from service.cli.local_server import local_server
from service.cli.upload import Ingest
from service.core.clip_sources import read_source
from service.engine.threads import available_cpus

Timing = tuple[np.ndarray, float]
"""Seconds of each call [calls], and calls a second over all."""
SPEECH_CALLS, TEXT_CALLS, PARALLEL = 24, 60, 8


def main() -> int:
    """Print latencies of embedding and search next to the baseline."""
    clips = [p for p in sorted(LIBRARY.glob("*.ogg")) if soundfile.info(p).duration < 9][:SPEECH_CALLS]
    waves = [_samples(path) for path in clips]
    texts = (f"a calm voice, number {number}, speaking slowly" for number in itertools.count())  # never cached
    direct_speech, direct_text = _baseline(waves, texts)
    rows: list[dict[str, Any]] = []
    rows.append(_row("clip: BundleRuntime, one at a time (baseline)", direct_speech, direct_speech))
    rows.append(_row("text: BundleRuntime, one at a time (baseline)", direct_text, direct_text))
    with local_server(bundle=BUNDLE) as server, httpx.Client(base_url=server.url, timeout=300) as http:
        run = Ingest(Client(server.url), "bench")
        run.prepare()
        for _ in run.steps(read_source(LIBRARY / "manifest.jsonl")):
            pass
        uris = ["data:audio/ogg;base64," + base64.b64encode(clip.read_bytes()).decode() for clip in clips]

        def post(path: str, body: dict[str, Any]) -> Callable[[], object]:
            return lambda: http.post(path, json=body).raise_for_status()

        def speech() -> Iterator[Callable[[], object]]:
            yield from (post("/v1/embeddings", {"input": uri, "modality": "audio"}) for uri in uris)

        def words(path: str, name: str, **rest: Any) -> list[Callable[[], object]]:
            return [post(path, {name: next(texts), **rest}) for _ in range(TEXT_CALLS)]

        search = "/v1/collections/bench/search"
        clip, text = "clip: POST /v1/embeddings", "text: POST /v1/embeddings"
        rows.append(_row(f"{clip}, one at a time", _timed(list(speech())), direct_speech))
        rows.append(_row(f"{clip}, {PARALLEL} callers", _timed(list(speech()), PARALLEL), direct_speech))
        rows.append(_row(f"{text}, one at a time", _timed(words("/v1/embeddings", "input")), direct_text))
        rows.append(
            _row(f"{text}, {PARALLEL} callers", _timed(words("/v1/embeddings", "input"), PARALLEL), direct_text)
        )
        rows.append(_row("search by new text", _timed(words(search, "query")), direct_text))
        known = [post(search, {"query": "a man whispers"}) for _ in range(TEXT_CALLS)]
        rows.append(_row("search by a text that is cached", _timed(known), direct_text))
        where = {"filter": {"gender": "female"}}
        rows.append(_row("search by new text, with a filter", _timed(words(search, "query", **where)), direct_text))
    columns = ("what", "p50 ms", "p99 ms", "per second", "p50 / baseline", "p99 / baseline", "throughput / baseline")
    report("latency", "Latency, ratios to the baseline of the same input kind in this run", columns, rows)
    return 0


def _baseline(waves: Sequence[np.ndarray], texts: Iterator[str]) -> tuple[Timing, Timing]:
    runtime = BundleRuntime(Bundle.load(BUNDLE), threads=available_cpus())
    speech = _timed([partial(runtime.embed_speech, [wave]) for wave in waves])
    return speech, _timed([partial(runtime.embed_text, [next(texts)]) for _ in range(TEXT_CALLS)])


def _samples(path: Path) -> np.ndarray:
    wave, rate = soundfile.read(path, dtype="float32")
    return np.asarray(soxr.resample(wave, rate, 16_000), np.float32)


def _timed(calls: Sequence[Callable[[], object]], parallel: int = 1) -> Timing:
    """Seconds of each call [calls], and calls a second over all. The first call, which warms up, is not counted."""
    calls[0]()

    def one(call: Callable[[], object]) -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        seconds = np.array(list(pool.map(one, calls[1:])))
    return seconds, (len(calls) - 1) / (time.perf_counter() - started)


def _row(what: str, measured: Timing, baseline: Timing) -> dict[str, Any]:
    p50, p99 = (float(np.percentile(measured[0], q)) for q in (50, 99))
    base50, base99 = (float(np.percentile(baseline[0], q)) for q in (50, 99))
    return {
        "what": what,
        "p50 ms": p50 * 1000,
        "p99 ms": p99 * 1000,
        "per second": measured[1],
        "p50 / baseline": p50 / base50,
        "p99 / baseline": p99 / base99,
        "throughput / baseline": measured[1] / baseline[1],
        "calls": len(measured[0]),
    }


if __name__ == "__main__":
    sys.exit(main())
