"""Any sequence of calls, restarts, builds, merges and snapshots leaves LocalStore equal to a dictionary.

Once as small collections are indexed, exactly; once with an approximate index over a handful of vectors, where every
candidate is ranked by its exact vector, so that the answers must be the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from index.ann.plan import IndexSettings
from index.errors import CollectionNotFound, ItemNotFound, UnknownField
from index.filters import parse_filter
from index.local.store import LocalStore
from index.types import Hit, NewItem, Vector
from tests.support.index_oracle import check_hits, clip, folder_in_memory, holds, unit

DIM = 8
NAMES = ["voices", "music.v2"]
names = st.sampled_from(NAMES)
ids = st.sampled_from(["a", "b", "c d", "é", "z'", "%25"])
# Few seeds, so that equal vectors and equal scores are common.
seeds = st.integers(0, 5)
values = st.sampled_from([0, 1, 1.0, True, "x", "y", None, ["x", 1], []])
# One field is on most items and one on few: filters on a field that nobody has are refused, so they must be rare.
metadatas = st.fixed_dictionaries({}, optional={"a.b": values}).flatmap(
    lambda some: st.just(some) | values.map(lambda value: {**some, "gender": value})
)
media = st.none() | st.sampled_from([b"one", b"two"])
clips = st.builds(clip, ids, st.lists(seeds, min_size=1, max_size=4), st.just(DIM), metadatas, media)
batches = st.lists(clips, min_size=1, max_size=4, unique_by=lambda item: item.id)
conditions = st.dictionaries(
    st.sampled_from(["gender", "a.b"]),
    st.sampled_from(["x", 1, {"gte": 1}, {"ne": "x"}, {"exists": False}, {"contains": "x"}, [True, "y", None]]),
    min_size=1,
    max_size=2,
)
wheres = st.none() | conditions | conditions.map(lambda one: {"not": one})

Search = tuple[int, int, Any, list[str], float | None]
searches = st.lists(
    st.tuples(seeds, st.integers(1, 7), wheres, st.lists(ids, max_size=2), st.none() | st.floats(-1, 1)), max_size=6
)


class StoreAgainstDictionary(RuleBasedStateMachine):
    """The model: collection name to item id to the item as given."""

    index = IndexSettings(background=False)

    @initialize(batch=batches)
    def open(self, batch: list[NewItem]) -> None:
        # Hypothesis leaves out rules at random to go deep with the others, so none may wait for another to have run.
        self.folder = folder_in_memory()
        self.store = LocalStore(self.folder, settings=self.index)
        self.model: dict[str, dict[str, NewItem]] = {}
        self.upsert(NAMES[0], batch)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)

    @rule(name=names)
    def create(self, name: str) -> None:
        _, created = self.store.create_collection(name, dim=DIM, identity="x")
        assert created == (name not in self.model)
        self.model.setdefault(name, {})

    @rule(name=names)
    def delete_collection(self, name: str) -> None:
        if self._there(name, lambda: self.store.delete_collection(name)):
            self.store.delete_collection(name)
            del self.model[name]

    @rule(name=names, batch=batches, tend=st.booleans())
    def upsert(self, name: str, batch: list[NewItem], tend: bool = False) -> None:
        if not self._there(name, lambda: self.store.upsert(name, batch, identity="x")):
            self.create(name)
        created = self.store.upsert(name, batch, identity="x")
        assert created == [item.id not in self.model[name] for item in batch]
        self.model[name].update({item.id: item for item in batch})
        if tend:
            self.store.maintenance.settle()

    @rule(name=names, item_id=ids)
    def delete(self, name: str, item_id: str) -> None:
        if self._there(name, lambda: self.store.delete_item(name, item_id), item_id):
            self.store.delete_item(name, item_id)
            del self.model[name][item_id]

    @rule(name=names, item_id=ids, patch=metadatas)
    def patch(self, name: str, item_id: str, patch: dict[str, Any]) -> None:
        if self._there(name, lambda: self.store.patch_metadata(name, item_id, patch), item_id):
            item = self.model[name][item_id]
            merged = {**item.metadata, **patch}
            for field in patch:
                if patch[field] is None:
                    del merged[field]
            self.model[name][item_id] = replace(item, metadata=merged)
            assert self.store.patch_metadata(name, item_id, patch).metadata == merged

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = LocalStore(self.folder, settings=self.index)

    @rule(name=names)
    def rebuild(self, name: str) -> None:
        if self._there(name, lambda: self.store.maintenance.rebuild(name)):
            self.store.maintenance.rebuild(name)

    @rule(name=names, batch=searches)
    def search(self, name: str, batch: list[Search]) -> None:
        for query, top_k, where, exclude, min_score in batch:
            self._search(name, unit(query, DIM), top_k, where, exclude, min_score)

    @rule(name=names, limit=st.integers(1, 4), where=wheres)
    def pages(self, name: str, limit: int, where: Any) -> None:
        parsed = None if where is None else parse_filter(where)

        def first() -> Any:
            return self.store.list_items(name, limit=limit, where=parsed)

        if not self._there(name, first) or self._unknown(name, where, first):
            return
        listed, cursor = first()
        while cursor:
            page, cursor = self.store.list_items(name, limit=limit, where=parsed, cursor=cursor)
            listed += page
        expected = {k: v for k, v in self.model[name].items() if where is None or holds(where, v.metadata)}
        assert [item.id for item in listed] == sorted(expected)
        for item in listed:
            given = expected[item.id]
            assert (item.metadata, item.segments, item.filename) == (
                given.metadata,
                len(given.segments),
                given.filename,
            )
            assert item.has_media == (given.media is not None)

    @invariant()
    def what_is_there_is_what_the_model_holds(self) -> None:
        assert {info.name for info in self.store.list_collections()} == set(self.model)
        wanted = set()
        for name, items in self.model.items():
            info = self.store.get_collection(name)
            assert (info.items, info.segments) == (len(items), sum(len(item.segments) for item in items.values()))
            assert info.metadata_fields == sorted({field for item in items.values() for field in item.metadata})
            self._search(name, unit(99, DIM), 3, None, [], None)
            for item in items.values():
                vectors = self.store.item_vectors(name, item.id)
                assert np.allclose(vectors, [one.vector for one in item.segments], atol=1e-6)
                if item.media is not None:
                    path, _ = self.store.media_path(name, item.id)
                    assert path.read_bytes() == item.media.data
                    wanted.add(path)
        assert {path for path in (self.folder / "media").rglob("*") if path.is_file()} == wanted

    def _search(
        self, name: str, query: Vector, top_k: int, where: Any, exclude: list[str], min_score: float | None
    ) -> None:
        def run(k: int, floor: float | None = None) -> list[Hit]:
            parsed = None if where is None else parse_filter(where)
            return self.store.search(name, query, top_k=k, where=parsed, exclude_ids=exclude, min_score=floor)

        if not self._there(name, lambda: run(top_k)) or self._unknown(name, where, lambda: run(top_k)):
            return
        candidates = {
            item_id: item
            for item_id, item in self.model[name].items()
            if item_id not in exclude and (where is None or holds(where, item.metadata))
        }
        hits = run(top_k)
        check_hits(hits, candidates, query, top_k, 1e-5)
        # A shorter answer is the beginning of a longer one, ties included; a floor cuts the same answer.
        assert run(100)[:top_k] == hits
        if min_score is not None:
            assert run(top_k, min_score) == [hit for hit in hits if hit.score >= min_score]

    def _there(self, name: str, call: Callable[[], object], item_id: str | None = None) -> bool:
        """Whether the model has the collection (and item); if not, the call must say so."""
        if name not in self.model:
            with pytest.raises(CollectionNotFound):
                call()
            return False
        if item_id is not None and item_id not in self.model[name]:
            with pytest.raises(ItemNotFound):
                call()
            return False
        return True

    def _unknown(self, name: str, where: Any, call: Callable[[], object]) -> bool:
        """Whether the filter names a field that no item has; if so, the call must say so."""
        fields = {field for item in self.model[name].values() for field in item.metadata}
        if where is None or set(where.get("not", where)) <= fields:
            return False
        with pytest.raises(UnknownField):
            call()
        return True


class ApproximateStoreAgainstDictionary(StoreAgainstDictionary):
    """Anything at all is more than may be scanned whole; two vectors beside the index are merged into it."""

    index = IndexSettings(
        flat_bytes=64,
        delta_bytes=32,
        exact_ids=2,
        rerank=1000,
        regrow=100.0,
        dead_share=0.6,
        background=False,
        build_apart=False,
    )


TestStoreAgainstDictionary = StoreAgainstDictionary.TestCase
TestApproximateStoreAgainstDictionary = ApproximateStoreAgainstDictionary.TestCase
TestStoreAgainstDictionary.settings = TestApproximateStoreAgainstDictionary.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
