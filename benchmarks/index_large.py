"""The built index alone, at a size whose catalog does not fit the disk at hand: memory, recall, latency, load time.

    python benchmarks/index_large.py draw 10000000 --folder DIR
    python benchmarks/index_large.py build 10000000 --folder DIR
    python benchmarks/index_large.py measure 10000000 --folder DIR

Planner, builder and searches are the service's. The vectors lie in a file of float16 instead of the catalog, and no
items, filters or changes are there: exact re-ranking reads the file, as it would read the catalog.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parent))
from index_data import DIM, Exact, queries, timed, vectors
from results import console, report

from index.ann.ivf import FrozenFacts, FrozenIndex
from index.ann.plan import MIB, IndexSettings, make_plan
from index.local import builder
from index.local.vector_source import BATCH
from index.storage.durable_files import checksums
from index.types import Ids, Vector

EFFORTS = (8, 16, 32, 64, 128)
COLUMNS = (
    "what",
    "vectors",
    "recall@10",
    "cpu p50 ms",
    "p50 ms",
    "p99 ms",
    "per s",
    "build cpu s",
    "MB",
    "load s",
)


class FileVectors:
    """Vectors [n, D] in a file, known by their place in it; see `index.local.vector_source.Vectors`."""

    def __init__(self, path: Path) -> None:
        self.dim = DIM
        self._rows = np.memmap(path, np.float16, "r").reshape(-1, DIM)

    def keys(self) -> Ids:
        return np.arange(len(self._rows), dtype=np.int64)

    def fetch(self, keys: Ids) -> tuple[Ids, Vector]:
        return keys, self._rows[keys].astype(np.float32)

    def scan(self) -> Iterator[tuple[Ids, Vector]]:
        for start in range(0, len(self._rows), BATCH):
            block = self._rows[start : start + BATCH].astype(np.float32)
            yield np.arange(start, start + len(block), dtype=np.int64), block


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("draw", "build", "measure"))
    parser.add_argument("size", type=int)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--memory-mib", type=int, default=12 * 1024, help="the planner's budget")
    given = parser.parse_args()
    folder = given.folder / f"large-{given.size}"
    folder.mkdir(parents=True, exist_ok=True)
    if given.stage == "draw":
        _draw(folder, given.size)
    elif given.stage == "build":
        _build(folder, given.size, given.memory_mib)
    else:
        report("index_large", "The built index alone", COLUMNS, _measure(folder, given.size))
    return 0


def _draw(folder: Path, size: int) -> None:
    exact, first = Exact(queries()), 0
    with (folder / "vectors.f16").open("wb") as file:
        for block in vectors(size):
            half = block.astype(np.float16)
            exact.see(np.arange(first, first + len(block)), half.astype(np.float32))
            file.write(half.tobytes())
            first += len(block)
    np.save(folder / "exact.npy", exact.ids)
    console.print(f"{size} vectors drawn")


def _build(folder: Path, size: int, memory_mib: int) -> None:
    cores = len(os.sched_getaffinity(0))
    settings = IndexSettings(memory_bytes=memory_mib * MIB, build_threads=cores)
    plan = make_plan(size, DIM, settings)
    console.print(plan)
    worked = time.process_time()
    frozen = builder.build(
        FileVectors(folder / "vectors.f16"),
        plan,
        target_recall=settings.target_recall,
        threads=cores,
        check=lambda: None,
    )
    told = {
        "facts": asdict(frozen.facts),
        "build cpu s": time.process_time() - worked,
    }
    frozen.write(folder / "index.faiss")
    (folder / "built.json").write_text(json.dumps(told), "utf-8")
    console.print(told)


def _measure(folder: Path, size: int) -> list[dict[str, Any]]:
    told = json.loads((folder / "built.json").read_text("utf-8"))
    facts = FrozenFacts.from_json(told["facts"])
    source, exact = FileVectors(folder / "vectors.f16"), np.load(folder / "exact.npy")
    before = psutil.Process().memory_info().rss
    started = time.perf_counter()
    checksums(folder / "index.faiss")
    frozen = FrozenIndex.read(folder / "index.faiss", facts)
    load_s = time.perf_counter() - started
    resident = psutil.Process().memory_info().rss - before
    wanted = builder.TOP * builder.SEGMENTS_PER_ITEM * facts.rerank

    def at(effort: int, clients: int) -> dict[str, float]:
        def search(query: np.ndarray) -> list[int]:
            _, keys = frozen.search(query, wanted, effort)
            _, found = source.fetch(keys)
            best: list[int] = keys[np.argsort(-(found @ query))[: builder.TOP]].tolist()
            return best

        return timed(search, queries(), exact, clients)

    what = f"{facts.kind}, {frozen.lists} lists"
    rows: list[dict[str, Any]] = [
        {"what": f"{what}, effort {effort}", "vectors": size, **at(effort, 1)}
        for effort in sorted({*EFFORTS, facts.effort})
    ]
    rows.append({"what": f"{what}, effort {facts.effort}, 8 clients", "vectors": size, **at(facts.effort, 8)})
    for row in rows:
        if row["what"] == f"{what}, effort {facts.effort}":
            row["what"] += " (tuned)"
            row |= {"build cpu s": told["build cpu s"], "MB": resident / 1e6, "load s": load_s}
    return rows


if __name__ == "__main__":
    sys.exit(main())
