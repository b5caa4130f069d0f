"""Other indexes on the same vectors: run by index_scale.py with a Python that has them; prints JSON lines.

python benchmarks/index_peers.py build|measure NAME SIZE FOLDER
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from index_data import DIM, Drawn, cpu_s, queries, timed, vectors

M, EF_BUILD = 16, 100
EFFORTS = (8, 16, 32, 64, 128, 256)
Search = Callable[[np.ndarray], list[int]]


class Peer(Protocol):
    """One index: built and saved, or loaded; `effort` is what its search calls so, if anything."""

    says: str
    most: int
    efforts: tuple[int, ...]

    def build(self, blocks: Drawn, path: Path, threads: int) -> None: ...
    def load(self, path: Path) -> None: ...
    def search(self, query: np.ndarray, effort: int) -> list[int]: ...


class Hnswlib:
    says = f"hnswlib (M {M}, float32)"
    most = 1_000_000
    efforts = EFFORTS

    def build(self, blocks: Drawn, path: Path, threads: int) -> None:
        import hnswlib

        index = hnswlib.Index(space="ip", dim=DIM)
        index.init_index(max_elements=blocks.count, M=M, ef_construction=EF_BUILD)
        index.set_num_threads(threads)
        for block in blocks:
            index.add_items(block)
        index.save_index(str(path))

    def load(self, path: Path) -> None:
        import hnswlib

        self._index = hnswlib.Index(space="ip", dim=DIM)
        self._index.load_index(str(path))
        self._index.set_num_threads(1)

    def search(self, query: np.ndarray, effort: int) -> list[int]:
        self._index.set_ef(effort)
        labels: list[int] = self._index.knn_query(query, k=10)[0][0].tolist()
        return labels


class Usearch:
    says = f"usearch (M {M}, float16)"
    most = 1_000_000
    efforts = EFFORTS

    def build(self, blocks: Drawn, path: Path, threads: int) -> None:
        index = self._empty()
        for first, block in enumerate(blocks):
            start = first * len(block)
            index.add(np.arange(start, start + len(block)), block, threads=threads)
        index.save(str(path))

    def load(self, path: Path) -> None:
        self._index = self._empty()
        self._index.load(str(path))

    def search(self, query: np.ndarray, effort: int) -> list[int]:
        self._index.expansion_search = effort
        keys: list[int] = self._index.search(query, 10, threads=1).keys.tolist()
        return keys

    @staticmethod
    def _empty() -> Any:
        from usearch.index import Index

        return Index(ndim=DIM, metric="ip", dtype="f16", connectivity=M, expansion_add=EF_BUILD)


class Qdrant:
    """Its local mode compares the query with every vector, in numpy."""

    says = "Qdrant, local mode (exact)"
    most = 100_000
    efforts = (0,)

    def build(self, blocks: Drawn, path: Path, threads: int) -> None:
        path.touch()

    def load(self, path: Path) -> None:
        from qdrant_client import QdrantClient, models

        self._client = QdrantClient(":memory:")
        size = int(path.parent.name)
        vector = models.VectorParams(size=DIM, distance=models.Distance.DOT)
        self._client.create_collection("c", vectors_config=vector)
        for first, block in enumerate(vectors(size)):
            start = first * len(block)
            ids = list(range(start, start + len(block)))
            self._client.upsert("c", points=models.Batch(ids=ids, vectors=block.tolist()))

    def search(self, query: np.ndarray, effort: int) -> list[int]:
        return [int(hit.id) for hit in self._client.query_points("c", query=query.tolist(), limit=10).points]


class MilvusLite:
    says = "Milvus Lite (IVF_FLAT)"
    most = 100_000
    efforts = EFFORTS

    def build(self, blocks: Drawn, path: Path, threads: int) -> None:
        client = self._client_of(path)
        client.create_collection("c", dimension=DIM, metric_type="IP", auto_id=False)
        for first, block in enumerate(blocks):
            start = first * len(block)
            for i in range(0, len(block), 1000):
                client.insert("c", [{"id": start + j, "vector": block[j]} for j in range(i, min(i + 1000, len(block)))])
        client.flush("c")
        client.release_collection("c")
        client.drop_index("c", "vector")
        params = client.prepare_index_params()
        lists = int(4 * np.sqrt(blocks.count))
        params.add_index("vector", index_type="IVF_FLAT", metric_type="IP", params={"nlist": lists})
        client.create_index("c", params)
        client.close()

    def load(self, path: Path) -> None:
        self._client = self._client_of(path)
        self._client.load_collection("c")

    def search(self, query: np.ndarray, effort: int) -> list[int]:
        params = {"metric_type": "IP", "params": {"nprobe": effort}}
        (hits,) = self._client.search("c", [query.tolist()], limit=10, search_params=params)
        return [int(hit["id"]) for hit in hits]

    @staticmethod
    def _client_of(path: Path) -> Any:
        from pymilvus import MilvusClient

        return MilvusClient(str(path.with_suffix(".db")))


PEERS: dict[str, type[Peer]] = {"hnswlib": Hnswlib, "usearch": Usearch, "qdrant": Qdrant, "milvus-lite": MilvusLite}


def main(stage: str, name: str, size: int, folder: Path) -> None:
    peer = PEERS[name]()
    if size > peer.most:
        return
    path, told = folder / name, folder / f"{name}.json"
    if stage == "measure":
        _measure(peer, path, told, np.load(folder / "exact.npz")["all"])
    elif not told.exists():
        blocks, worked = Drawn(size), cpu_s()
        peer.build(blocks, path, len(os.sched_getaffinity(0)))
        told.write_text(json.dumps({"build cpu s": cpu_s() - worked - blocks.cpu_s}), "utf-8")
        print(told.read_text("utf-8"), flush=True)


def _measure(peer: Peer, path: Path, told: Path, exact: np.ndarray) -> None:
    before = _resident()
    started = time.perf_counter()
    peer.load(path)
    known = {
        **json.loads(told.read_text("utf-8")),
        "load s": time.perf_counter() - started,
        "MB": (_resident() - before) / 1e6,
        "disk MB": _bytes(path) / 1e6,
    }
    if peer.most < 1_000_000:
        del known["load s"]
    reached = 0.0
    for effort in peer.efforts:
        row = _timed(peer, effort, exact, 1)
        if reached < 0.95:
            enough = effort
        reached = row["recall@10"]
        says = f"{peer.says}, effort {effort}" if effort else peer.says
        print(json.dumps({"what": says, "effort": effort, **row, **known}), flush=True)
    eight = _timed(peer, enough, exact, 8)
    print(json.dumps({"what": f"{peer.says}, 8 clients", **eight}), flush=True)


def _timed(peer: Peer, effort: int, exact: np.ndarray, clients: int) -> dict[str, float]:
    return {"clients": clients, **timed(lambda query: peer.search(query, effort), queries(), exact, clients)}


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _bytes(path: Path) -> int:
    files = [one for one in path.parent.glob(f"{path.name}*") if one.suffix != ".json"]
    return sum(one.stat().st_size for file in files for one in (file.rglob("*") if file.is_dir() else [file]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
