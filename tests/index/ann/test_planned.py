"""Collections large enough for an approximate index: recall, filters, changes, effort, and restarts from snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.ann.plan import make_plan
from index.filters import parse_filter
from index.local.segments import matching_segments
from index.local.store import LocalStore
from index.types import Vector
from tests.support.index_clusters import SMALL, clustered, items_of

DIM = 32
COUNT = 6000
PQ = replace(SMALL, memory_bytes=1)
VECTORS = clustered(COUNT, DIM)
QUERIES = clustered(60, DIM, seed=1)


@pytest.fixture(scope="module", params=["ivf-sq8", "ivf-pq"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    """Read only. 6000 vectors in the built index."""
    settings = PQ if request.param == "ivf-pq" else SMALL
    with LocalStore(tmp_path_factory.mktemp("built"), settings=settings) as store:
        store.create_collection("c", dim=DIM, identity="x")
        store.upsert("c", items_of(VECTORS), identity="x")
        store.maintenance.settle()
        facts = store.maintenance.facts("c")
        assert facts.frozen is not None
        assert (facts.frozen.kind, facts.delta, facts.saved) == (request.param, 0, COUNT)
        yield store


def recall(store: LocalStore, vectors: Vector, where: dict[str, Any] | None = None, effort: int | None = None) -> float:
    """Recall@10 over the queries, against exact search over those of `vectors` that pass the filter."""
    ((field, value),) = (where or {"": 0}).items()
    modulus = {"": 1, "half": 2, "twentieth": 20, "thousandth": 1000}[field]
    allowed = np.arange(len(vectors))[np.arange(len(vectors)) % modulus == value]
    found = 0
    for query in QUERIES:
        exact = allowed[np.argsort(-(vectors[allowed] @ query))[:10]]
        parsed = parse_filter(where) if where else None
        hits = store.search("c", query, top_k=10, where=parsed, effort=effort)
        assert len(hits) == min(10, len(allowed))
        for hit in hits:
            assert int(hit.item_id) % modulus == value
            assert hit.score == pytest.approx(float(vectors[int(hit.item_id)] @ query), abs=1e-6)
        found += len({int(hit.item_id) for hit in hits} & set(exact.tolist()))
    return found / (len(QUERIES) * min(10, len(allowed)))


def test_recall_and_exact_scores(built: LocalStore) -> None:
    assert recall(built, VECTORS) >= 0.95


@pytest.mark.parametrize(("where", "least"), [({"half": 1}, 0.95), ({"twentieth": 3}, 0.95), ({"thousandth": 7}, 1.0)])
def test_recall_under_filters(built: LocalStore, where: dict[str, Any], least: float) -> None:
    """50 %, 5 % and 0.1 % of the items; a filter never leaves fewer hits than there are."""
    assert recall(built, VECTORS, where) >= least


def test_effort_is_a_matter_of_each_query(built: LocalStore) -> None:
    tuned = built.maintenance.facts("c").frozen
    assert tuned is not None
    assert tuned.recall is not None
    assert tuned.recall >= 0.95
    before = recall(built, VECTORS)
    assert recall(built, VECTORS, effort=1) < before
    assert recall(built, VECTORS, effort=10_000) > 0.98
    assert recall(built, VECTORS) == before


def test_an_item_without_its_filter_s_neighbours_near_is_found_all_the_same(built: LocalStore) -> None:
    """A search probes on until it has what was asked for, even with a filter that leaves only what is far away."""
    scores = VECTORS @ QUERIES[0]
    far = np.argsort(scores)[:40]
    parsed = parse_filter({"any": [{"thousandth": int(one) % 1000} for one in far]})
    hits = built.search("c", QUERIES[0], top_k=100, where=parsed, effort=1)
    assert len(hits) == 100
    assert len(built.search("c", QUERIES[0], top_k=COUNT, effort=1)) == COUNT


def test_excluding_and_floor_and_long_answers(built: LocalStore) -> None:
    best = built.search("c", QUERIES[0], top_k=3, effort=10_000)
    without = built.search("c", QUERIES[0], top_k=2, exclude_ids=[best[0].item_id], effort=10_000)
    assert [hit.item_id for hit in without] == [hit.item_id for hit in best[1:]]
    many = built.search("c", QUERIES[0], top_k=50, effort=10_000)
    cut = built.search("c", QUERIES[0], top_k=50, min_score=many[20].score, effort=10_000)
    assert cut == many[:21]


def test_changes_show_at_once_and_are_merged_later(tmp_path: Path) -> None:
    with LocalStore(tmp_path, settings=SMALL) as store:
        store.create_collection("c", dim=DIM, identity="x")
        store.upsert("c", items_of(VECTORS[:3000]), identity="x")
        store.maintenance.settle()
        for number in range(0, 3000, 10):
            store.delete_item("c", f"{number:07}")
        # Replaced: their old vectors must be found no more, their new ones at once.
        store.upsert("c", items_of(VECTORS[5000:5200], first=1), identity="x")
        facts = store.maintenance.facts("c")
        assert (facts.delta, facts.dead, facts.vectors) == (200, 300 + 180, 3000 - 300 + 20)
        _check_moved(store)
        store.upsert("c", items_of(VECTORS[3000:3400], first=3000), identity="x")
        store.maintenance.settle()
        facts = store.maintenance.facts("c")
        assert facts.delta == 0
        assert facts.frozen is not None
        assert facts.frozen.trained_on == 3000
        _check_moved(store)
        (hit,) = store.search("c", VECTORS[3333], top_k=1)
        assert hit.item_id == "0003333"
    with LocalStore(tmp_path, settings=SMALL) as store:
        assert store.maintenance.facts("c").frozen is not None
        _check_moved(store)


def test_nothing_is_trained_on_nothing(tmp_path: Path) -> None:
    """A collection may be emptied between the plan for it and the build."""
    with LocalStore(tmp_path, settings=SMALL) as store:
        store.create_collection("c", dim=DIM, identity="x")
        row, _ = store._mirror.get("c")
        assert store.maintenance._worker.build(row, make_plan(COUNT, DIM, SMALL)) is False
        assert store.search("c", VECTORS[0], top_k=3) == []


def test_a_flat_plan_is_refused_and_not_trained_on_a_null_pointer(tmp_path: Path) -> None:
    with LocalStore(tmp_path, settings=SMALL) as store:
        store.create_collection("c", dim=DIM, identity="x")
        store.upsert("c", items_of(VECTORS[:100]), identity="x")
        row, _ = store._mirror.get("c")
        with pytest.raises(ValueError, match="no lists"):
            store.maintenance._worker.build(row, make_plan(100, DIM, SMALL))
        assert len(store.search("c", VECTORS[0], top_k=200)) == 100


def _check_moved(store: LocalStore) -> None:
    for number in (1, 11, 200):
        (hit,) = store.search("c", VECTORS[5000 + number - 1], top_k=1)
        assert (hit.item_id, round(hit.score, 5)) == (f"{number:07}", 1.0)
        assert store.search("c", VECTORS[number], top_k=1)[0].score < 0.999
    deleted = {f"{number:07}" for number in range(210, 3000, 10)}
    assert not deleted & {hit.item_id for hit in store.search("c", VECTORS[500], top_k=3000)}


def test_a_collection_that_grew_or_died_is_built_anew_and_a_small_one_goes_back_to_flat(tmp_path: Path) -> None:
    with LocalStore(tmp_path, settings=replace(SMALL, regrow=1.5)) as store:
        store.create_collection("c", dim=DIM, identity="x")
        trained = []
        for start in range(0, 3000, 1000):
            store.upsert("c", items_of(VECTORS[start : start + 1000], start), identity="x")
            store.maintenance.settle()
            frozen = store.maintenance.facts("c").frozen
            trained.append(frozen.trained_on if frozen else 0)
        assert trained == [1000, 2000, 2000]
        for number in range(1000):
            store.delete_item("c", f"{number:07}")
        store.maintenance.settle()
        facts = store.maintenance.facts("c")
        assert facts.frozen is not None
        assert (facts.frozen.trained_on, facts.dead, facts.vectors) == (2000, 0, 2000)
        for number in range(1000, 2900):
            store.delete_item("c", f"{number:07}")
        store.maintenance.settle()
        facts = store.maintenance.facts("c")
        assert (facts.frozen, facts.vectors, facts.saved) == (None, 100, 0)
        assert not list((tmp_path / "index").iterdir())
        assert store.search("c", VECTORS[2950], top_k=1)[0].item_id == "0002950"


@pytest.mark.parametrize("apart", [False, True])
def test_an_index_half_dead_of_a_collection_small_enough_to_be_scanned_is_given_up(tmp_path: Path, apart: bool) -> None:
    """Too large to go back to flat for its size alone, and due to be built anew: but what is planned for it is flat."""
    with LocalStore(tmp_path, settings=replace(SMALL, build_apart=apart)) as store:
        store.create_collection("c", dim=DIM, identity="x")
        most = SMALL.flat_bytes // (DIM * 4)
        store.upsert("c", items_of(VECTORS[: most * 5 // 4]), identity="x")
        store.maintenance.settle()
        assert store.maintenance.facts("c").frozen is not None
        for number in range(most // 2):
            store.delete_item("c", f"{number:07}")
        facts = store.maintenance.facts("c")
        assert most // 2 < facts.vectors < most
        assert facts.plan.kind == "flat"
        store.maintenance.settle()
        facts = store.maintenance.facts("c")
        assert (facts.frozen, facts.delta, facts.dead) == (None, most * 5 // 4 - most // 2, 0)
        (hit,) = store.search("c", VECTORS[most], top_k=1)
        assert hit.item_id == f"{most:07}"


def test_tuning_sets_and_keeps_the_effort(tmp_path: Path) -> None:
    with LocalStore(tmp_path, settings=replace(SMALL, target_recall=0.6)) as store:
        store.create_collection("c", dim=DIM, identity="x")
        store.upsert("c", items_of(VECTORS), identity="x")
        store.maintenance.settle()
        low = store.maintenance.facts("c").frozen
        high = store.maintenance.tune("c", 0.99).frozen
        assert low is not None
        assert high is not None
        assert low.effort < high.effort
        assert [point.effort for point in high.curve] == sorted({point.effort for point in high.curve})
        assert recall(store, VECTORS) >= 0.97
    with LocalStore(tmp_path, settings=SMALL) as store:
        assert store.maintenance.facts("c").frozen == high


def test_more_vectors_than_memory_are_built_before_they_are_served(tmp_path: Path) -> None:
    with LocalStore(tmp_path, settings=replace(SMALL, flat_bytes=10**9)) as store:
        store.create_collection("c", dim=DIM, identity="x")
        store.upsert("c", items_of(VECTORS), identity="x")
    with LocalStore(tmp_path, settings=PQ) as store:
        facts = store.maintenance.facts("c")
        assert facts.frozen is not None
        assert (facts.frozen.kind, facts.delta, facts.vectors) == ("ivf-pq", 0, COUNT)
        assert recall(store, VECTORS) >= 0.95


def test_a_selective_filter_costs_what_it_selects(built: LocalStore) -> None:
    """Not a look at every item: counted in steps of SQLite's machine."""

    def steps(where: dict[str, Any]) -> int:
        counted = 0

        def step() -> int:
            nonlocal counted
            counted += 1
            return 0

        with built._database.snapshot() as connection:
            connection.set_progress_handler(step, 10)
            try:
                matching_segments(connection, 1, parse_filter(where), [])
            finally:
                connection.set_progress_handler(None, 0)
        return counted

    few, many = steps({"thousandth": 3}), steps({"half": 1})
    assert few * 20 < many
    assert steps({"twentieth": 3, "half": {"exists": True}}) < many
