"""A collection large enough for an approximate index, behind HTTP: built by itself, searched with any effort."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from index.local.store import LocalStore
from index.types import NewItem, NewSegment, Vector
from model_export.bundle import Bundle
from service.engine.identity import embedding_identity
from service.settings import DEFAULT_BUNDLE
from tests.support.http import refused
from tests.support.serving import Serve, Server

COUNT, QUERIES = 3000, 20


def unit_vectors(count: int, seed: int, dim: int) -> Vector:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Vector]:
    """A data folder with one collection, and the vectors in it."""
    folder = tmp_path_factory.mktemp("large")
    bundle = Bundle.load(DEFAULT_BUNDLE)
    dim = bundle.manifest.embedding_dim
    rows = unit_vectors(COUNT, 0, dim)
    with LocalStore(folder) as store:
        store.create_collection("large", dim=dim, identity=embedding_identity(bundle))
        items = [
            NewItem(str(i), [NewSegment(0.0, 10.0, row)], {"even": i % 2 == 0}, 10.0, f"{i:064x}")
            for i, row in enumerate(rows)
        ]
        store.upsert("large", items, identity=embedding_identity(bundle))
    return folder, rows


@pytest.fixture(scope="module")
def server(serve: Serve, vectors: tuple[Path, Vector]) -> Iterator[Server]:
    """A service that has built an index of its own accord."""
    with serve(data_dir=vectors[0], index_flat_mib=1) as running:
        store: LocalStore = running.app.state.services.store
        store.maintenance.settle()  # The background may be at it: then this waits for it.
        facts = store.maintenance.facts("large")
        assert facts.frozen is not None
        assert (facts.frozen.kind, facts.saved) == ("ivf-sq8", COUNT)
        yield running


def search(client: httpx.Client, query: Vector, **options: Any) -> list[dict[str, Any]]:
    body = {"query": [{"vector": query.tolist()}], "top_k": 10, **options}
    response = client.post("/v1/collections/large/search", json=body)
    assert response.status_code == 200, response.text
    return list(response.json()["hits"])


def test_effort_is_a_matter_of_each_search(server: Server, vectors: tuple[Path, Vector]) -> None:
    _, rows = vectors
    found = dict.fromkeys((None, 1, 65_536), 0)
    for query in unit_vectors(QUERIES, 1, rows.shape[1]):
        cosines = rows @ query
        exact = {str(i) for i in np.argsort(-cosines)[:10]}
        for effort in found:
            hits = search(server.client, query, **({} if effort is None else {"effort": effort}))
            assert len(hits) == 10
            assert all(hit["score"] == pytest.approx(float(cosines[int(hit["id"])]), abs=1e-5) for hit in hits)
            found[effort] += len(exact & {hit["id"] for hit in hits})
    # Codes of 8 bits order candidates; the exact vectors order the hits.
    assert found[1] < found[None]
    assert found[65_536] >= 0.99 * 10 * QUERIES


def test_filters_go_with_it(server: Server, vectors: tuple[Path, Vector]) -> None:
    _, rows = vectors
    query = rows[5]
    (best,) = search(server.client, query, top_k=1)
    assert best["id"] == "5"
    hits = search(server.client, query, filter={"even": True}, effort=1)
    assert len(hits) == 10
    assert all(hit["metadata"]["even"] for hit in hits)


@pytest.mark.parametrize("effort", [0, -1, 65_537, 1.5, "all"])
def test_what_is_no_effort_is_refused(server: Server, effort: Any) -> None:
    body = {"query": "a calm voice", "effort": effort}
    refused(server.client.post("/v1/collections/large/search", json=body), 422, "invalid-request", field="effort")
