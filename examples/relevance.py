"""Does each kind of query help? Measured over HTTP on the example library, with the answers of `relevance.json`.

    python examples/relevance.py            # starts a service of its own; a minute

mAP is the mean average precision over queries, P@1 the share whose first hit is right; the second pair of columns asks
the same within a filter (American clips only, then British ones). For diversity the clips are the takes of
`examples/gates/`, twenty-four of each voice: how many different voices are among the first five hits, and how many of
those hits are right.
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
from clsp_client.calls import NewClip, QueryPart
from service.cli.local_server import local_server
from service.cli.upload import Ingest
from service.core.clip_sources import read_source

HERE = Path(__file__).resolve().parent
COLLECTION, TAKES = "relevance", "relevance-takes"
WITHIN = ({"accent": "american"}, {"accent": "british"})
FEMALE = ("anna", "cora", "eve")
FIRST, AT_ONCE = 5, 12
TRIPLED = 3.0
"""What the service does to the weight of words beside clips (docs/search.md)."""
Query = str | Sequence[QueryPart]
Case = Mapping[str, Any]


class Judge:
    """Searches a collection and compares hits with what is relevant."""

    def __init__(self, client: Client, collection: str, metadata: Mapping[str, Mapping[str, Any]]) -> None:
        self._client = client
        self._collection = collection
        self._metadata = metadata

    def relevant(self, wanted: Case, but: str | None = None) -> set[str]:
        """Ids of the clips whose metadata hold the wanted values."""
        return {id for id, metadata in self._metadata.items() if id != but and _holds(metadata, wanted)}

    def ids(self, query: Query, within: Case | None, **options: Any) -> list[str]:
        """Hits for a query, all of which pass the filter."""
        found = self._client.search(self._collection, query, filter=within, **options)["hits"]
        ids = [hit["id"] for hit in found]
        assert within is None or set(ids) <= self.relevant(within)
        return ids

    def measure(self, cases: Sequence[Case], query: Callable[[Case], Query]) -> dict[str, float]:
        """mAP and P@1 over cases, and over cases within each of the filters that leaves something to find."""
        free = [(case, None) for case in cases]
        narrow = [(case, within) for case in cases for within in WITHIN]
        mean, first = self._precision(free, query)
        mean_within, first_within = self._precision(narrow, query)
        return {"mAP": mean, "P@1": first, "mAP, filtered": mean_within, "P@1, filtered": first_within}

    def _precision(
        self, asked: Sequence[tuple[Case, Case | None]], query: Callable[[Case], Query]
    ) -> tuple[float, float]:
        precisions, firsts = [], []
        for case, within in asked:
            wanted = self.relevant(case["relevant"], case.get("item"))
            wanted &= self.relevant(within) if within else wanted
            if not wanted:
                continue
            hits = self.ids(query(case), within, top_k=len(self._metadata))
            precisions.append(_average_precision(hits, wanted))
            firsts.append(hits[0] in wanted)
        return sum(precisions) / len(precisions), sum(firsts) / len(firsts)

    def variety(self, cases: Sequence[Case], diversity: float) -> dict[str, float]:
        """Different voices among the first hits and the share of them that is right; then within a filter on gender."""
        figures: dict[str, float] = {}
        for suffix, filtered in (("", False), (", filtered", True)):
            voices, right = 0, 0.0
            for case in cases:
                within = case["relevant"] if filtered else None
                hits = self.ids(case["text"], within, top_k=FIRST, diversity=diversity)
                voices += len({self._metadata[id]["voice"] for id in hits})
                right += len(set(hits) & self.relevant(case["relevant"])) / len(hits)
            figures |= {f"voices in 5{suffix}": voices / len(cases), f"right{suffix}": right / len(cases)}
        return figures


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
    """{what is measured: {method: figures}}. `fill` has to have been there."""
    cases = json.loads((HERE / "relevance.json").read_text("utf-8"))
    negations, like_but, more_like = cases["negations"], cases["like_but"], cases["more_like"]
    judge = Judge(client, COLLECTION, {row["id"]: row["metadata"] for row in _rows("library/manifest.jsonl")})
    takes = Judge(client, TAKES, {clip.id: clip.metadata or {} for clip in _takes()})
    mixed = lambda case, weight: [{"item_id": case["item"]}, {"text": case["words"], "weight": weight}]  # noqa: E731
    return {
        "“…, not …”": {
            "without what is refused": judge.measure(negations, lambda case: case["positive"]),
            "the text as the model hears it": judge.measure(
                negations, lambda case: [{"text": f"{case['positive']}, not {case['negative']}"}]
            ),
            "read for what it refuses": judge.measure(
                negations, lambda case: f"{case['positive']}, not {case['negative']}"
            ),
        },
        "like this, but …": {
            "the clip alone": judge.measure(like_but, lambda case: [{"item_id": case["item"]}]),
            "the words alone": judge.measure(like_but, lambda case: [{"text": case["words"]}]),
            "both, weighted alike": judge.measure(like_but, lambda case: mixed(case, 1 / TRIPLED)),
            "both": judge.measure(like_but, lambda case: mixed(case, 1.0)),
        },
        "more like this, whoever speaks": {
            "the item": judge.measure(more_like, lambda case: [{"item_id": case["item"]}]),
            "the item's style": judge.measure(more_like, lambda case: [{"item_id": case["item"], "aspect": "style"}]),
        },
        "not five times the same": {
            f"diversity {value:g}": takes.variety(cases["diverse"], value) for value in (0.0, 0.2, 0.4, 0.6)
        },
    }


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / name).read_text("utf-8").splitlines()]


def _takes() -> list[NewClip]:
    """Both takes of every voice: what a TTS team's library looks like."""
    return [
        NewClip(
            HERE / "gates" / row["audio"],
            id=f"{take}-{row['id']}",
            metadata={"voice": row["group"], "gender": "female" if row["group"] in FEMALE else "male"},
        )
        for take in ("baseline", "good")
        for row in _rows(f"gates/{take}.jsonl")
    ]


def fill(client: Client) -> None:
    """Put the example library and the takes into their collections."""
    ingest = Ingest(client, COLLECTION)
    ingest.prepare()
    for _ in ingest.steps(read_source(HERE / "library" / "manifest.jsonl")):
        pass
    client.create_collection(TAKES)
    takes = _takes()
    for start in range(0, len(takes), AT_ONCE):
        client.add_items(TAKES, takes[start : start + AT_ONCE])


def main() -> int:
    """Measure and print."""
    console = Console(width=110)
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
