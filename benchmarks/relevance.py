"""Does each kind of query help? The figures of `examples/relevance.py` as results for docs/search.md.

python benchmarks/relevance.py
"""

from __future__ import annotations

import sys

from results import ROOT, report

sys.path.insert(0, str(ROOT / "examples"))
from relevance import fill, measure_all

from clsp_client import Client
from service.cli.local_server import local_server


def main() -> None:
    with local_server() as server, Client(server.url) as client:
        fill(client)
        measured = measure_all(client)
    queries, hits = [], []
    for title, methods in measured.items():
        for method, figures in methods.items():
            row = {"wish": title, "asked as": method, **figures}
            (queries if "mAP" in figures else hits).append(row)
    report("relevance", "Queries of several kinds", list(queries[0]), queries)
    report("relevance_diversity", "Hits that differ", list(hits[0]), hits)


if __name__ == "__main__":
    main()
