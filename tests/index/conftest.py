"""Stores for tests of the interface: each such test runs on both backends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from index.backend import Store
from index.milvus.index import MilvusStore
from tests.support.index_backends import BACKENDS, Backend
from tests.support.milvus import milvus_under_test

DIM = 16


@pytest.fixture(scope="session")
def milvus_uri() -> Iterator[str]:
    """The address of a Milvus that all tests share, each under names of its own."""
    with milvus_under_test() as uri:
        yield uri


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """One backend after the other."""
    return Backend(request.param, request.getfixturevalue("milvus_uri") if request.param == "milvus" else "")


@pytest.fixture
def store(backend: Backend, tmp_path: Path) -> Iterator[Store]:
    """An open store with an empty collection "c"."""
    store = backend.open(tmp_path / "data")
    store.create_collection("c", dim=DIM, identity="one")
    yield store
    store.close()


@pytest.fixture
def milvus(milvus_uri: str) -> Backend:
    return Backend("milvus", milvus_uri)


@pytest.fixture
def pair(milvus: Backend, tmp_path: Path) -> Iterator[tuple[MilvusStore, MilvusStore]]:
    """Two replicas of one service, with a collection "c"."""
    one, two = milvus.open(tmp_path), milvus.open(tmp_path)
    assert isinstance(one, MilvusStore) and isinstance(two, MilvusStore)
    with one, two:
        one.create_collection("c", dim=DIM, identity="x")
        yield one, two
