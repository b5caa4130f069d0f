"""Does each kind of query help? Measured over HTTP on the example library, with the answers of `relevance.json`.

    python examples/relevance.py            # starts a service of its own; a minute

mAP is the mean average precision over queries, P@1 the share whose first hit is right. For diversity: how many
different styles are among the first five hits, and how many of those hits are right.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from clsp_client import Client
from clsp_client.calls import QueryPart
from service.cli_ingest import Ingest, read_source
from service.cli_local import local_server

HERE = Path(__file__).resolve().parent
COLLECTION = "relevance"
FACETS = ("rate", "pitch", "expressiveness", "phonation", "loudness", "accent")
Query = str | Sequence[QueryPart]
Case = Mapping[str, Any]


class Judge:
    """Searches the library and compares hits with what is relevant."""

    def __init__(self, client: Client) -> None:
        self._client = client
        rows = [json.loads(line) for line in (HERE / "library" / "manifest.jsonl").read_text("utf-8").splitlines()]
        self._metadata = {row["id"]: row["metadata"] for row in rows}

    def relevant(self, wanted: Case, but: str | None = None) -> set[str]:
        """Ids of the clips whose metadata hold the wanted values."""
        return {id for id, metadata in self._metadata.items() if id != but and _holds(metadata, wanted)}

    def ids(self, query: Query, **options: Any) -> list[str]:
        """Hits for a query."""
        return [hit["id"] for hit in self._client.search(COLLECTION, query, **options)["hits"]]

    def measure(self, cases: Sequence[Case], query: Callable[[Case], Query]) -> dict[str, float]:
        """mAP and P@1 over cases."""
        precisions, firsts = [], []
        for case in cases:
            hits = self.ids(query(case), top_k=len(self._metadata))
            wanted = self.relevant(case["relevant"], case.get("item"))
            precisions.append(_average_precision(hits, wanted))
            firsts.append(hits[0] in wanted)
        return {"mAP": sum(precisions) / len(cases), "P@1": sum(firsts) / len(cases)}

    def variety(self, cases: Sequence[Case], diversity: float) -> dict[str, float]:
        """Mean number of different styles among the first five hits, and the share of them that is right."""
        styles, right = 0, 0.0
        for case in cases:
            hits = self.ids(case["text"], top_k=5, diversity=diversity)
            styles += len({tuple(str(self._metadata[id].get(facet)) for facet in FACETS) for id in hits})
            right += len(set(hits) & self.relevant(case["relevant"])) / len(hits)
        return {"styles in 5": styles / len(cases), "right": right / len(cases)}


def _holds(metadata: Mapping[str, Any], wanted: Case) -> bool:
    for name, value in wanted.items():
        found = metadata.get(name)
        values = found if isinstance(found, list) else [found]
        if not set(values) & set(value if isinstance(value, list) else [value]):
            return False
    return True


def _average_precision(hits: Sequence[str], wanted: set[str]) -> float:
    found, total = 0, 0.0
    for rank, id in enumerate(hits, 1):
        if id in wanted:
            found += 1
            total += found / rank
    return total / max(1, len(wanted))


def measure_all(client: Client) -> dict[str, dict[str, dict[str, float]]]:
    """{what is measured: {method: figures}}. The library has to be in the collection."""
    cases = json.loads((HERE / "relevance.json").read_text("utf-8"))
    judge = Judge(client)
    return {
        "“…, not …” (negative weight)": {
            "without what is refused": judge.measure(cases["negations"], lambda case: case["positive"]),
            "the text as the model hears it": judge.measure(
                cases["negations"], lambda case: [{"text": f"{case['positive']}, not {case['negative']}"}]
            ),
            "read for what it refuses": judge.measure(
                cases["negations"], lambda case: f"{case['positive']}, not {case['negative']}"
            ),
        },
        "like this, but … (clip plus words)": {
            "like this": judge.measure(cases["like_but"], lambda case: [{"item_id": case["item"]}]),
            "the words alone": judge.measure(cases["like_but"], lambda case: [{"text": case["words"]}]),
            "both": judge.measure(cases["like_but"], lambda case: [{"item_id": case["item"]}, {"text": case["words"]}]),
        },
        "more like this": {
            "the item": judge.measure(cases["more_like"], lambda case: [{"item_id": case["item"]}]),
            "the item's style": judge.measure(
                cases["more_like"], lambda case: [{"item_id": case["item"], "aspect": "style"}]
            ),
        },
        "diversity (MMR)": {
            f"diversity {value:g}": judge.variety(cases["diverse"], value) for value in (0.0, 0.2, 0.4, 0.6)
        },
    }


def fill(client: Client) -> None:
    """Put the example library into the collection."""
    ingest = Ingest(client, COLLECTION)
    ingest.prepare()
    for _ in ingest.steps(read_source(HERE / "library" / "manifest.jsonl")):
        pass


def main() -> int:
    """Measure and print."""
    console = Console(width=100)
    with local_server() as server, Client(server.url) as client:
        fill(client)
        for title, methods in measure_all(client).items():
            figures = list(next(iter(methods.values())))
            table = Table(title=title, title_justify="left")
            table.add_column("")
            for figure in figures:
                table.add_column(figure, justify="right")
            for method, values in methods.items():
                table.add_row(method, *(f"{values[figure]:.2f}" for figure in figures))
            console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
