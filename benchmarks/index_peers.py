"""hnswlib and usearch on the same vectors: run by index_scale.py with a Python that has them; prints JSON lines."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from index_data import DIM, recall, vectors

M, EF_BUILD = 16, 100
Search = Callable[[np.ndarray], list[int]]


def main(count: int, exact_file: str, threads: int) -> None:
    queries = next(vectors(200, seed=2))
    exact = np.load(exact_file)
    for name in ("hnswlib", "usearch"):
        before = _resident()
        started = time.perf_counter()
        try:
            search, set_effort, save = {"hnswlib": _hnswlib, "usearch": _usearch}[name](count, threads)
        except ImportError:
            print(json.dumps({"what": name, "skipped": "not installed"}), flush=True)
            continue
        build_s = time.perf_counter() - started
        resident = _resident() - before
        for effort in (16, 32, 64, 128, 256, 512):
            set_effort(effort)
            found, times = [], []
            for query in queries:
                begun = time.perf_counter()
                found.append(search(query))
                times.append(time.perf_counter() - begun)
            reached = recall(found, exact)
            if reached >= 0.95:
                break
        path = Path(exact_file).with_suffix(f".{name}")
        save(str(path))
        row = {
            "what": f"{name} (M {M}, ef {effort}, float32)", "build s": build_s, "MB": resident / 1e6,
            "disk MB": path.stat().st_size / 1e6, "recall@10": reached,
            "p50 ms": 1000 * float(np.percentile(times, 50)), "p99 ms": 1000 * float(np.percentile(times, 99)),
        }  # fmt: skip
        path.unlink()
        print(json.dumps(row), flush=True)
        del search, set_effort, save


def _hnswlib(count: int, threads: int) -> tuple[Search, Callable[[int], None], Callable[[str], None]]:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=DIM)
    index.init_index(max_elements=count, M=M, ef_construction=EF_BUILD)
    index.set_num_threads(threads)
    for block in vectors(count):
        index.add_items(block)
    index.set_num_threads(1)
    return lambda query: index.knn_query(query, k=10)[0][0].tolist(), index.set_ef, index.save_index


def _usearch(count: int, threads: int) -> tuple[Search, Callable[[int], None], Callable[[str], None]]:
    from usearch.index import Index

    index = Index(ndim=DIM, metric="ip", dtype="f32", connectivity=M, expansion_add=EF_BUILD)
    for first, block in enumerate(vectors(count)):
        start = first * 10_000
        index.add(np.arange(start, start + len(block)), block, threads=threads)

    def effort(value: int) -> None:
        index.expansion_search = value

    return lambda query: index.search(query, 10, threads=1).keys.tolist(), effort, index.save


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
