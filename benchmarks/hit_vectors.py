"""What the vectors of hits cost: with the search, or one call a hit after it, as queries of parts and diversity need.

    python benchmarks/hit_vectors.py [--items 50000] [--rounds 200]

Both in one process on one library, in turn; medians, and their ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from index_data import DIM, vectors

from index.local.store import LocalStore
from index.types import NewItem, NewSegment


def fill(store: LocalStore, items: int) -> None:
    """Items of two segments each."""
    number = 0
    for block in vectors(2 * items):
        batch = []
        for one, two in block.reshape(-1, 2, DIM):
            segments = [NewSegment(0, 5, one), NewSegment(5, 10, two)]
            batch.append(NewItem(str(number), segments, {"n": number}, 10.0, "0" * 64))
            number += 1
        store.upsert("c", batch, identity="x")


def median_ms(call: Callable[[np.ndarray], object], queries: np.ndarray) -> float:
    """Median time of a call over queries [n, D], milliseconds."""
    times = []
    for query in queries:
        began = time.perf_counter()
        call(query)
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def main() -> None:
    """Fill, index, measure, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=50_000, help="items of two segments each")
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    queries = np.concatenate(list(vectors(options.rounds, seed=2)))
    with tempfile.TemporaryDirectory() as folder, LocalStore(Path(folder)) as store:
        store.create_collection("c", dim=DIM, identity="x")
        fill(store, options.items)
        store.maintenance.settle()
        for top_k in (10, 100):

            def one_call(query: np.ndarray, top_k: int = top_k) -> object:
                return store.search("c", query, top_k=top_k, with_vectors=True)

            def a_call_a_hit(query: np.ndarray, top_k: int = top_k) -> object:
                return [store.item_vectors("c", hit.item_id) for hit in store.search("c", query, top_k=top_k)]

            with_hits, apart = median_ms(one_call, queries), median_ms(a_call_a_hit, queries)
            told = {"top_k": top_k, "with_hits_ms": with_hits, "call_a_hit_ms": apart, "ratio": apart / with_hits}
            print(json.dumps({name: round(value, 3) for name, value in told.items()}))


if __name__ == "__main__":
    main()
