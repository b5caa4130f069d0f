"""What HTTP costs a search on top of the index: the same vectors asked of LocalStore and of a running service.

    python benchmarks/index_http.py 100000 1000000 --folder DIR

DIR is what `index_scale.py build` made. The service is the shipped one, in a process of its own, over the same data.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from http_load import closed_loop, post
from index_data import queries
from results import report

from index.ann.plan import IndexSettings
from index.local.store import LocalStore
from service.cli.local_server import local_server

SECONDS = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", type=int, nargs="+")
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for size in given.sizes:
        data = given.folder / str(size) / "data"
        with LocalStore(data, settings=IndexSettings(background=False)) as store:
            inside = _inside(store)
        with local_server(data) as server:
            address = f"{server.url}/v1/collections/c/search"
            bodies = [json.dumps({"query": [{"vector": query.tolist()}], "top_k": 10}) for query in queries()]
            requests = itertools.cycle([post(address, body.encode()) for body in bodies])
            over = closed_loop(server.url, 1, requests.__next__, seconds=SECONDS, warm_s=2.0).row()
        rows.append(
            {
                "vectors": size,
                "index p50 ms": inside[0],
                "HTTP p50 ms": over["p50 ms"],
                "HTTP adds ms": over["p50 ms"] - inside[0],
                "index p99 ms": inside[1],
                "HTTP p99 ms": over["p99 ms"],
                "ready s": server.ready_s,
                "lost": over["lost"] + over["other"] + over["refused"],
            }
        )
    report("index_http", "One search at a time, by vector", tuple(rows[0]), rows)
    return 0


def _inside(store: LocalStore) -> tuple[float, float]:
    """p50 and p99, milliseconds."""
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    for query in itertools.cycle(queries()):
        begun = time.perf_counter()
        if begun > end:
            break
        store.search("c", query, top_k=10)
        times.append(1000 * (time.perf_counter() - begun))
    warm = times[len(times) // 6 :]
    return float(np.percentile(warm, 50)), float(np.percentile(warm, 99))


if __name__ == "__main__":
    sys.exit(main())
