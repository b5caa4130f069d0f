"""The index by size, next to others: build, bytes, latency, recall, filters, adding while serving, restart.

    python benchmarks/index_scale.py 10000 100000 1000000 [--peers PYTHON] [--folder DIR] [--memory-mib N] [--name NAME]

Everything goes through LocalStore, catalog and exact re-ranking included; the peers are called as bare libraries.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from index_data import DIM, Exact, recall, vectors
from results import console, report

from index.filters import parse_filter
from index.plan import MIB, IndexSettings
from index.store import LocalStore
from index.types import NewItem, NewSegment

FILTERS = {"filter 50 %": ("half", 2), "filter 5 %": ("twentieth", 20), "filter 0.1 %": ("thousandth", 1000)}
COLUMNS = ("what", "vectors", "build s", "MB", "disk MB", "recall@10", "p50 ms", "p99 ms", "per s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", type=int, nargs="+")
    parser.add_argument("--peers", help="a Python that has hnswlib and usearch")
    parser.add_argument("--folder", type=Path, help="where data folders are made; default: a temporary one")
    parser.add_argument("--memory-mib", type=int, default=0, help="the planner's budget")
    parser.add_argument("--name", default="index_scale", help="of the JSON file in benchmarks/results")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for size in given.sizes:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            rows += _ours(Path(folder), size, given.memory_mib)
            if given.peers:
                rows += _peers(given.peers, Path(folder), size)
        title = f"Index of {DIM}-d vectors, {len(os.sched_getaffinity(0))} cores; MB resident beyond the interpreter's"
        report(given.name, title, COLUMNS, rows)
    return 0


def _ours(folder: Path, size: int, memory_mib: int) -> list[dict[str, Any]]:
    cores = len(os.sched_getaffinity(0))
    settings = IndexSettings(memory_bytes=memory_mib * MIB, build_threads=cores, background=False)
    queries = next(vectors(200, seed=2))
    exact = Exact(queries)
    with LocalStore(folder / "data", settings=settings) as store:
        store.create_collection("c", dim=DIM, identity="bench")
        started = time.perf_counter()
        for first, block in _numbered(size):
            store.upsert("c", _items(first, block), identity="bench")
        add_s = time.perf_counter() - started
        started = time.perf_counter()
        store.upkeep.settle()
        build_s = time.perf_counter() - started
    for first, block in _numbered(size):
        exact.see(np.arange(first, first + len(block)), block)
    np.save(folder / "exact.npy", exact.ids)
    console.print(f"{size}: added in {add_s:.0f} s, built in {build_s:.0f} s")
    restart_s, resident = _restart(folder / "data", memory_mib)
    with LocalStore(folder / "data", settings=settings) as store:
        facts = store.upkeep.facts("c")
        kind = f"{facts.frozen.kind}, effort {facts.frozen.effort}/{facts.lists}" if facts.frozen else "flat"
        disk = sum(file.stat().st_size for file in (folder / "data" / "index").iterdir())
        common = {"vectors": size}
        whole = _timed(store, queries, exact.ids)
        eight = _timed(store, queries, exact.ids, clients=8)
        catalog = (folder / "data" / "catalog.sqlite").stat().st_size
        rows = [
            {"what": f"clsp ({kind})", **common, "build s": build_s, "MB": resident / 1e6, "disk MB": disk / 1e6,
             **whole, "curve": [vars(point) for point in facts.frozen.curve] if facts.frozen else []},
            {"what": "  8 clients", **common, **eight},
            {"what": "  catalog", **common, "disk MB": catalog / 1e6},
        ]  # fmt: skip
        for name, (field, modulus) in FILTERS.items():
            found = _filtered_exact(queries[:50], size, modulus)
            rows.append({"what": f"  {name}", **common, **_timed(store, queries[:50], found, where={field: 1})})
            again = _timed(store, queries[:50], found, where={field: 1})
            rows.append({"what": f"  {name}, again", **common, **again})
        rows.append({"what": "  restart to first answer", **common, "build s": restart_s})
        rows.append({"what": "  adding before the build", **common, "per s": size / add_s})
        rows.append({**_adding(store, size, queries), **common})
    return rows


def _timed(
    store: LocalStore, queries: np.ndarray, exact: np.ndarray, clients: int = 1, where: dict[str, int] | None = None
) -> dict[str, float]:
    parsed = parse_filter(where) if where else None

    def one(query: np.ndarray) -> tuple[float, list[int]]:
        begun = time.perf_counter()
        hits = store.search("c", query, top_k=10, where=parsed)
        return time.perf_counter() - begun, [int(hit.item_id) for hit in hits]

    one(queries[0])
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        done = list(pool.map(one, queries))
    spent = time.perf_counter() - started
    times = np.array([seconds for seconds, _ in done]) * 1000
    return {"recall@10": recall([ids for _, ids in done], exact), "p50 ms": float(np.percentile(times, 50)),
            "p99 ms": float(np.percentile(times, 99)), "per s": len(queries) / spent}  # fmt: skip


def _filtered_exact(queries: np.ndarray, size: int, modulus: int) -> np.ndarray:
    seen = Exact(queries)
    for first, block in _numbered(size):
        numbers = np.arange(first, first + len(block))
        chosen = numbers % modulus == 1
        seen.see(numbers[chosen], block[chosen])
    return seen.ids


def _adding(store: LocalStore, size: int, queries: np.ndarray) -> dict[str, Any]:
    """Searches by one client while another adds items ten at a time."""
    done = threading.Event()
    added = 0
    spent = 0.0

    def add() -> None:
        nonlocal added, spent
        blocks = vectors(20_000, seed=3)
        for block in blocks:
            for start in range(0, len(block), 10):
                if done.is_set():
                    return
                begun = time.perf_counter()
                store.upsert("c", _items(size + added, block[start : start + 10]), identity="bench")
                spent += time.perf_counter() - begun
                added += 10

    writer = threading.Thread(target=add)
    writer.start()
    times = []
    for query in queries:
        begun = time.perf_counter()
        store.search("c", query, top_k=10)
        times.append(time.perf_counter() - begun)
    done.set()
    writer.join()
    return {"what": f"  while adding ({1000 * spent / max(1, added):.1f} ms an item)", "p50 ms":
            1000 * float(np.percentile(times, 50)), "p99 ms": 1000 * float(np.percentile(times, 99))}  # fmt: skip


def _restart(data: Path, memory_mib: int) -> tuple[float, int]:
    """Seconds from the call to the first answer in a fresh process (imports not counted), and what it then holds."""
    code = (
        "import sys, time, numpy as np\nfrom pathlib import Path\nfrom index.store import LocalStore\n"
        "from index.plan import IndexSettings\nbefore = int(open('/proc/self/statm').read().split()[1])\n"
        "begun = time.perf_counter()\n"
        "settings = IndexSettings(memory_bytes=int(sys.argv[2]), background=False)\n"
        "store = LocalStore(Path(sys.argv[1]), settings=settings)\n"
        f"store.search('c', np.eye({DIM}, dtype=np.float32)[0], top_k=10)\n"
        "print(time.perf_counter() - begun, int(open('/proc/self/statm').read().split()[1]) - before)\n"
    )
    root = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run([sys.executable, "-c", code, str(data), str(memory_mib * MIB)], capture_output=True,  # noqa: S603
                          text=True, check=True, env={**os.environ, "PYTHONPATH": root})  # fmt: skip
    seconds, pages = done.stdout.split()
    return float(seconds), int(pages) * os.sysconf("SC_PAGE_SIZE")


def _peers(python: str, folder: Path, size: int) -> list[dict[str, Any]]:
    shutil.rmtree(folder / "data")
    script = str(Path(__file__).parent / "index_peers.py")
    command = [python, script, str(size), str(folder / "exact.npy"), str(len(os.sched_getaffinity(0)))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        console.print(done.stderr[-500:])
    return [{"vectors": size, **json.loads(line)} for line in done.stdout.splitlines()]


def _numbered(size: int) -> Any:
    first = 0
    for block in vectors(size):
        yield first, block
        first += len(block)


def _items(first: int, block: np.ndarray) -> list[NewItem]:
    return [
        NewItem(str(number), [NewSegment(0.0, 10.0, vector)],
                {"half": number % 2, "twentieth": number % 20, "thousandth": number % 1000}, 10.0, f"{number:064x}")
        for number, vector in enumerate(block, first)
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
