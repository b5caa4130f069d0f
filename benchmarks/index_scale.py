"""The index by size, next to others: build, bytes, latency, recall, filters, adding while serving, restart.

    python benchmarks/index_scale.py build 10000 100000 1000000 --folder DIR [--peers PYTHON]
    python benchmarks/index_scale.py measure 10000 100000 1000000 --folder DIR [--peers PYTHON]

`build` keeps what it makes in the folder, and skips what is there; `measure` reports all of it in one run. Ours goes
through LocalStore, catalog, locks and exact re-ranking included; the peers are called as bare libraries.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from index_data import DIM, Exact, cpu_s, queries, timed, vectors
from index_peers import EFFORTS, PEERS
from results import BUNDLE, console, report

from index.ann.plan import MIB, IndexSettings
from index.filters import parse_filter
from index.local.store import LocalStore
from index.types import Hit, NewItem, NewSegment
from model_export.bundle import Bundle
from service.engine.identity import embedding_identity

FILTERS = {"half": 2, "twentieth": 20, "thousandth": 1000}
WHENS = ("asked first", "asked after a write", "asked again")
SHARES = {"half": "50 %", "twentieth": "5 %", "thousandth": "0.1 %"}
# A search runs in one thread: its processor time says what it costs on a machine that is doing other things as well.
COLUMNS = (
    *("what", "vectors", "recall@10", "cpu p50 ms", "p50 ms", "p99 ms", "per s"),
    *("build cpu s", "MB", "disk MB", "load s"),
)
WANTED_RECALL = 0.95


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("build", "measure"))
    parser.add_argument("sizes", type=int, nargs="+")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--peers", help="a Python that has the peers")
    parser.add_argument("--only", nargs="*", default=list(PEERS), help="which peers")
    parser.add_argument("--memory-mib", type=int, default=0, help="the planner's budget")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for size in given.sizes:
        folder = given.folder / str(size)
        folder.mkdir(parents=True, exist_ok=True)
        if given.stage == "build":
            _build(folder, size, given.memory_mib)
        else:
            rows += _measure(folder, size, given.memory_mib, curves)
        for name in given.only if given.peers else ():
            _peer(given.peers, given.stage, name, size, folder, rows, curves)
        if given.stage == "measure":
            title = f"Index of {DIM}-d vectors; MB is what a process grew by when it loaded the index"
            report("index_scale", title, COLUMNS, rows)
            report(
                "index_curves", "Effort against recall", ("what", "vectors", "effort", "recall@10", "p50 ms"), curves
            )
    return 0


def _build(folder: Path, size: int, memory_mib: int) -> None:
    cores = len(os.sched_getaffinity(0))
    done = folder / "clsp.json"
    if done.exists():
        return
    settings = IndexSettings(memory_bytes=memory_mib * MIB, build_threads=cores, build_niceness=0, background=False)
    exact = {name: Exact(queries()) for name in ("all", *FILTERS)}
    seconds = 0.0
    with LocalStore(folder / "data", settings=settings) as store:
        # The shipped bundle's, so that a service can serve the folder (index_http.py).
        identity = embedding_identity(Bundle.load(BUNDLE, verify=False))
        store.create_collection("c", dim=DIM, identity=identity)
        for first, block in _numbered(size):
            numbers = np.arange(first, first + len(block))
            exact["all"].see(numbers, block)
            for name, modulus in FILTERS.items():
                exact[name].see(numbers[numbers % modulus == 1], block[numbers % modulus == 1])
            items = _items(first, block)
            started = time.perf_counter()
            for start in range(0, len(items), 1000):
                store.upsert("c", items[start : start + 1000], identity=identity)
            seconds += time.perf_counter() - started
        worked = cpu_s()
        store.maintenance.settle()
        build_s = cpu_s() - worked
    np.savez(folder / "exact.npz", **{name: one.ids for name, one in exact.items()})
    told = {"build cpu s": build_s, "added a second": size / seconds}
    done.write_text(json.dumps(told), "utf-8")
    console.print(size, told)


def _measure(folder: Path, size: int, memory_mib: int, curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    told = json.loads((folder / "clsp.json").read_text("utf-8"))
    exact = np.load(folder / "exact.npz")
    asked = queries()
    load_s, resident = _restart(folder / "data", memory_mib)
    settings = IndexSettings(memory_bytes=memory_mib * MIB, background=False)
    with LocalStore(folder / "data", settings=settings) as store:
        facts = store.maintenance.facts("c").frozen
        kind = f"clsp ({facts.kind}, effort {facts.effort})" if facts else "clsp (flat)"
        disk = sum(file.stat().st_size for file in (folder / "data" / "index").iterdir())
        row = {
            "what": kind,
            "vectors": size,
            **_timed(store, asked, exact["all"]),
            "build cpu s": told["build cpu s"],
            "MB": resident / 1e6,
            "disk MB": disk / 1e6,
            "load s": load_s,
        }
        rows = [row, {"what": "clsp, 8 clients", "vectors": size, **_timed(store, asked, exact["all"], clients=8)}]
        for effort in EFFORTS if facts else ():
            point = _timed(store, asked, exact["all"], effort=effort)
            curves.append({"what": "clsp", "vectors": size, "effort": effort, **point})
        for name, share in SHARES.items():
            for when in WHENS:
                found = _filtered(store, asked, exact[name], name, when)
                rows.append({"what": f"clsp, filter {share}, {when}", "vectors": size, **found})
        rows.append({"what": "clsp, while another adds", "vectors": size, **_adding(store, size, asked)})
        rows.append({"what": "clsp, adding alone, 1000 a call", "vectors": size, "per s": told["added a second"]})
    return rows


def _timed(
    store: LocalStore, asked: np.ndarray, exact: np.ndarray, clients: int = 1, effort: int | None = None
) -> dict[str, float]:
    def search(query: np.ndarray) -> list[Hit]:
        return store.search("c", query, top_k=10, effort=effort)

    return timed(search, asked, exact, clients, ids=_ids)


def _filtered(store: LocalStore, asked: np.ndarray, exact: np.ndarray, field: str, when: str) -> dict[str, float]:
    """Searches under `field` = 1 by one client."""
    times = 0
    where = parse_filter({field: 1})

    def before() -> None:
        nonlocal where, times
        times += 1
        if when == WHENS[0]:
            where = parse_filter({field: [1, -times]})  # nothing has that value: it only makes the filter a new one
        elif when == WHENS[1]:
            store.patch_metadata("c", "0", {"touched": times})

    def search(query: np.ndarray) -> list[Hit]:
        return store.search("c", query, top_k=10, where=where)

    few = 20 if when == WHENS[0] else len(asked)
    return timed(search, asked[:few], exact[:few], 1, before=before, ids=_ids)


def _ids(hits: list[Hit]) -> list[int]:
    return [int(hit.item_id) for hit in hits]


def _adding(store: LocalStore, size: int, asked: np.ndarray) -> dict[str, Any]:
    """Searches by one client while another adds items ten at a time; `per s` is of the items added."""
    done = threading.Event()
    identity = store.get_collection("c").identity
    added, spent = 0, 0.0

    def add() -> None:
        nonlocal added, spent
        for block in vectors(20_000, seed=3):
            for start in range(0, len(block), 10):
                if done.is_set():
                    return
                items = _items(size + added, block[start : start + 10])
                begun = time.perf_counter()
                store.upsert("c", items, identity=identity)
                spent += time.perf_counter() - begun
                added += 10

    writer = threading.Thread(target=add)
    writer.start()
    times = []
    for query in asked:
        begun = time.perf_counter()
        store.search("c", query, top_k=10)
        times.append(1000 * (time.perf_counter() - begun))
    done.set()
    writer.join()
    for number in range(size, size + added):
        store.delete_item("c", str(number))
    return {
        "p50 ms": float(np.percentile(times, 50)),
        "p99 ms": float(np.percentile(times, 99)),
        "per s": added / spent,
    }


def _restart(data: Path, memory_mib: int) -> tuple[float, int]:
    """Seconds from opening the folder to the first answer in a fresh process (imports not counted), and its growth."""
    code = (
        "import sys, time, numpy as np\nfrom pathlib import Path\nfrom index.local.store import LocalStore\n"
        "from index.ann.plan import IndexSettings\nbefore = int(open('/proc/self/statm').read().split()[1])\n"
        "begun = time.perf_counter()\n"
        "settings = IndexSettings(memory_bytes=int(sys.argv[2]), background=False)\n"
        "store = LocalStore(Path(sys.argv[1]), settings=settings)\n"
        f"store.search('c', np.eye({DIM}, dtype=np.float32)[0], top_k=10)\n"
        "print(time.perf_counter() - begun, int(open('/proc/self/statm').read().split()[1]) - before)\n"
    )
    root = str(Path(__file__).resolve().parent.parent)
    command = [sys.executable, "-c", code, str(data), str(memory_mib * MIB)]
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)  # noqa: S603
    seconds, pages = done.stdout.split()
    return float(seconds), int(pages) * os.sysconf("SC_PAGE_SIZE")


def _peer(
    python: str,
    stage: str,
    name: str,
    size: int,
    folder: Path,
    rows: list[dict[str, Any]],
    curves: list[dict[str, Any]],
) -> None:
    script = str(Path(__file__).parent / "index_peers.py")
    done = subprocess.run(  # noqa: S603
        [python, script, stage, name, str(size), str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        console.print(name, size, done.stderr[-500:])
        return
    points = [{"vectors": size, **json.loads(line)} for line in done.stdout.splitlines() if line.startswith("{")]
    if stage == "build":
        console.print(name, size, points)
        return
    curves += [{**point, "what": name} for point in points if "effort" in point]
    one = [point for point in points if point.get("clients") == 1]
    chosen = next((point for point in one if point["recall@10"] >= WANTED_RECALL), one[-1] if one else {})
    rows += [point for point in points if point is chosen or point.get("clients") == 8]


def _numbered(size: int) -> Iterator[tuple[int, np.ndarray]]:
    first = 0
    for block in vectors(size):
        yield first, block
        first += len(block)


def _items(first: int, block: np.ndarray) -> list[NewItem]:
    return [
        NewItem(
            id=str(number),
            segments=[NewSegment(0.0, 10.0, vector)],
            metadata={name: number % modulus for name, modulus in FILTERS.items()},
            duration_s=10.0,
            content_sha256=f"{number:064x}",
        )
        for number, vector in enumerate(block, first)
    ]


if __name__ == "__main__":
    sys.exit(main())
