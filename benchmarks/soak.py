"""Half an hour at 80 % of what the service can do, all kinds of call mixed: memory must stay flat and nothing fail.

python benchmarks/soak.py --minutes 30
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent))
from http_load import closed_loop, open_loop, post
from results import BUNDLE, report
from workloads import COLLECTION, prepare, workloads

from service.cli.local_server import local_server

LOAD = 0.8
GROWTH_LIMIT = 0.03
"""Share by which the mean resident memory of the last third may exceed that of the middle third."""
COLUMNS = (
    "minute",
    "per second",
    "p50 ms",
    "p99 ms",
    "ok",
    "refused",
    "late",
    "lost",
    "other",
    "MB",
    "files",
    "threads",
)


def main() -> int:
    """0 when the soak is clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=30)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with local_server(bundle=BUNDLE, environment={"CLSP_LOG_LEVEL": "warning"}) as server:
        prepare(server.url)
        process = psutil.Process(server.pid)
        kinds = workloads(server.url)
        turn = itertools.count()

        def mixed() -> bytes:
            number = next(turn)
            if number % 25:
                return kinds["mixed"].next_request()
            # The same few items again and again: the catalog is written, and stays as large as it is.
            body = {"items": [{"id": f"again-{number % 8}", "audio": _clip(kinds, number), "metadata": {"n": number}}]}
            return post(f"{server.url}/v1/collections/{COLLECTION}/items", json.dumps(body).encode())

        peak = closed_loop(server.url, 16, mixed, seconds=15).row()["per second"]
        for minute in range(1, options.minutes + 1):
            outcome = open_loop(server.url, LOAD * peak, mixed, seconds=60.0, seed=minute)
            memory = process.memory_info().rss / 1e6
            facts = {"MB": memory, "files": process.num_fds(), "threads": process.num_threads()}
            rows.append({"minute": minute, **outcome.row(), **facts})
            print(json.dumps({name: rows[-1][name] for name in COLUMNS}), flush=True)
        ready = httpx.get(f"{server.url}/readyz", timeout=10).status_code == 200
    report("soak", f"Soak at {LOAD:.0%} of {peak:.1f} requests a second", COLUMNS, rows)
    third = max(1, len(rows) // 3)
    middle, last = ([row["MB"] for row in part] for part in (rows[third : 2 * third] or rows, rows[-third:]))
    growth = (sum(last) / len(last)) / (sum(middle) / len(middle)) - 1
    bad = sum(row["lost"] + row["other"] + row["late"] for row in rows)
    print(f"memory grew by {growth:.1%} (limit {GROWTH_LIMIT:.0%}); {bad} lost, late or failed; ready: {ready}")
    return int(growth > GROWTH_LIMIT or bad > 0 or not ready)


def _clip(kinds: dict[str, Any], number: int) -> str:
    body = kinds["embed: 1 clip"].next_request()
    return str(json.loads(body[body.index(b"\r\n\r\n") + 4 :])["input"])


if __name__ == "__main__":
    began = time.perf_counter()
    status = main()
    print(f"{time.perf_counter() - began:.0f} s")
    sys.exit(status)
