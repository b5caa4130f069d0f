"""The promises of `index.backend.Store` call by call, on every backend: items, pages, patches, searches, restarts."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index.backend import Store
from index.errors import (
    CollectionNotFound,
    DimensionMismatch,
    IdentityMismatch,
    InvalidCursor,
    InvalidInput,
    InvalidName,
    ItemNotFound,
    MetadataTooLarge,
    StoreClosed,
)
from index.filters import parse_filter
from index.types import CollectionKind, Limits, NewSegment
from tests.support.index_backends import Backend
from tests.support.index_oracle import check_hits, clip, unit

DIM = 16


def test_creating_again_changes_nothing_but_the_description(store: Store) -> None:
    store.upsert("c", [clip("a", [1])], identity="one")
    info, created = store.create_collection("c", dim=DIM, identity="one", description="voices")
    assert (created, info.items, info.segments, info.description) == (False, 1, 1, "voices")
    assert store.create_collection("c", dim=DIM, identity="one")[0].description == "voices"
    with pytest.raises(IdentityMismatch) as identity:
        store.create_collection("c", dim=DIM, identity="two")
    assert (identity.value.expected, identity.value.got) == ("one", "two")
    with pytest.raises(DimensionMismatch):
        store.create_collection("c", dim=DIM + 1, identity="one")
    with pytest.raises(InvalidName):
        store.create_collection("no/slash", dim=DIM, identity="one")
    with pytest.raises(InvalidInput):
        store.create_collection("d", dim=0, identity="one")
    assert [one.name for one in store.list_collections()] == ["c"]
    assert store.collection_kind("c") == CollectionKind("c", DIM, "one")


def test_collections_keep_to_themselves_and_go_as_a_whole(store: Store) -> None:
    store.create_collection("d", dim=4, identity="two")
    store.upsert("c", [clip("a", [1, 2], metadata={"in_c": 1})], identity="one")
    store.upsert("d", [clip("a", [1], 4, {"in_d": 1}), clip("b", [2], 4)], identity="two")
    infos = {one.name: (one.items, one.segments, one.metadata_fields) for one in store.list_collections()}
    assert infos == {"c": (1, 2, ["in_c"]), "d": (2, 1 + 1, ["in_d"])}
    store.delete_collection("d")
    for call in (
        lambda: store.get_collection("d"),
        lambda: store.collection_kind("d"),
        lambda: store.search("d", unit(1, 4), top_k=1),
        lambda: store.upsert("d", [clip("a", [1], 4)], identity="two"),
        lambda: store.delete_collection("d"),
        lambda: store.list_items("d"),
        lambda: store.get_collection("\ud800"),
    ):
        with pytest.raises(CollectionNotFound):
            call()
    store.create_collection("d", dim=8, identity="three")
    assert store.search("d", unit(1, 8), top_k=5) == []
    assert store.get_collection("d").metadata_fields == []
    assert [hit.item_id for hit in store.search("c", unit(1, DIM), top_k=5)] == ["a"]


def test_upsert_tells_new_from_replaced_and_leaves_nothing_of_the_old(store: Store) -> None:
    assert store.upsert("c", [clip("a", [1, 2, 3], metadata={"old": 1}), clip("b", [4])], identity="one") == [
        True,
        True,
    ]
    before = store.get_item("c", "a")
    assert store.upsert("c", [clip("new", [6]), clip("a", [5], metadata={"new": 2})], identity="one") == [True, False]
    after = store.get_item("c", "a")
    assert (after.segments, after.metadata, after.created_at) == (1, {"new": 2}, before.created_at)
    assert store.get_collection("c").segments == 3
    assert store.get_collection("c").metadata_fields == ["new"]
    assert np.allclose(store.item_vectors("c", "a"), unit(5, DIM)[None], atol=1e-6)
    hits = {hit.item_id: hit.score for hit in store.search("c", unit(1, DIM), top_k=10)}
    assert set(hits) == {"a", "b", "new"}
    assert hits["a"] == pytest.approx(float(unit(1, DIM) @ unit(5, DIM)), abs=1e-6)


def test_upsert_is_all_or_nothing(store: Store) -> None:
    store.upsert("c", [clip("a", [1], metadata={"v": 1})], identity="one")
    bad = replace(clip("c", [3]), segments=[NewSegment(0, 1, unit(3, DIM) * 2)])
    with pytest.raises(InvalidInput, match=r"items\[2\].segments\[0\].vector"):
        store.upsert("c", [clip("a", [9], metadata={"v": 2}), clip("b", [2]), bad], identity="one")
    with pytest.raises(InvalidInput, match=r"items\[1\].id: 'b' is already items\[0\]"):
        store.upsert("c", [clip("b", [1]), clip("b", [2])], identity="one")
    with pytest.raises(IdentityMismatch):
        store.upsert("c", [clip("b", [1])], identity="two")
    with pytest.raises(DimensionMismatch):
        store.upsert("c", [clip("b", [1], DIM - 1)], identity="one")
    assert [(item.id, item.metadata) for item in store.list_items("c")[0]] == [("a", {"v": 1})]
    assert store.search("c", unit(1, DIM), top_k=3)[0].score == pytest.approx(1, abs=1e-6)


def test_delete_removes_an_item_from_every_view(store: Store) -> None:
    store.upsert("c", [clip("a", [1, 2], metadata={"only_a": 1}), clip("b", [3])], identity="one")
    store.delete_item("c", "a")
    for call in (store.get_item, store.delete_item, store.item_vectors, store.media_path):
        with pytest.raises(ItemNotFound):
            call("c", "a")
    assert [hit.item_id for hit in store.search("c", unit(1, DIM), top_k=5)] == ["b"]
    info = store.get_collection("c")
    assert (info.items, info.segments, info.metadata_fields) == (1, 1, [])
    with pytest.raises(ItemNotFound):
        store.get_item("c", "lone surrogate \ud800")


def test_merge_patch_follows_rfc_7396(store: Store) -> None:
    store.upsert("c", [clip("a", [1], metadata={"keep": 1, "drop": 2, "null": None, "edit": "x"})], identity="one")
    item = store.patch_metadata("c", "a", {"drop": None, "missing": None, "edit": ["y"], "add": True})
    assert item.metadata == {"keep": 1, "null": None, "edit": ["y"], "add": True}
    assert store.get_item("c", "a") == item
    assert [hit.item_id for hit in store.search("c", unit(1, DIM), top_k=1, where=parse_filter({"add": True}))] == ["a"]
    assert "drop" not in store.get_collection("c").metadata_fields
    for patch in ({"nested": {"x": 1}}, ["list"], {"x": float("nan")}):
        with pytest.raises(InvalidInput):
            store.patch_metadata("c", "a", patch)
    with pytest.raises(ItemNotFound):
        store.patch_metadata("c", "b", {"x": 1})
    assert store.get_item("c", "a") == item


def test_pages_cover_everything_once_while_items_come_and_go(store: Store) -> None:
    ids = [f"clip {i:02}é%" for i in range(23)]
    store.upsert(
        "c", [clip(item_id, [i], metadata={"even": i % 2 == 0}) for i, item_id in enumerate(ids)], identity="one"
    )
    seen, cursor = store.list_items("c", limit=5)
    store.delete_item("c", seen[-1].id)
    store.upsert("c", [clip("aaa before the cursor", [99])], identity="one")
    while cursor:
        page, cursor = store.list_items("c", limit=5, cursor=cursor)
        seen += page
    assert [item.id for item in seen] == ids
    even, cursor = store.list_items("c", limit=11, where=parse_filter({"even": True}))
    assert ([item.id for item in even], cursor) == (ids[0:4:2] + ids[6::2], None)
    for bad in ("", "x", "MTo", "MTppMQ==", "\ud800", "MjphYQ", "é"):
        with pytest.raises(InvalidCursor):
            store.list_items("c", cursor=bad)
    for limit in (0, -1, 10_001):
        with pytest.raises(InvalidInput):
            store.list_items("c", limit=limit)


def test_each_item_comes_once_by_its_best_segment(store: Store) -> None:
    items = {f"i{n}": clip(f"i{n}", list(range(n * 100, n * 100 + 40)), metadata={"n": n}) for n in range(6)}
    # An hour-long clip whose every window is nearer than the others' best must not crowd them out.
    query = unit(12345, DIM)
    near = [query + 0.05 * unit(5000 + i, DIM) for i in range(700)]
    long = replace(
        clip("long", [0]),
        segments=[NewSegment(5.0 * i, 5.0 * i + 10, v / np.linalg.norm(v)) for i, v in enumerate(near)],
    )
    items["long"] = long
    store.upsert("c", list(items.values()), identity="one")
    for top_k in (1, 2, 5, 7, 50):
        check_hits(store.search("c", query, top_k=top_k), items, query, top_k, 1e-5)
    without = store.search("c", query, top_k=3, exclude_ids=["long", "i2", "unknown", "bad\0id"])
    check_hits(without, {k: v for k, v in items.items() if k not in ("long", "i2")}, query, 3, 1e-5)
    filtered = store.search("c", query, top_k=9, where=parse_filter({"n": {"gte": 2}}), exclude_ids=["i3"])
    check_hits(filtered, {k: items[k] for k in ("i2", "i4", "i5")}, query, 9, 1e-5)


def test_equal_scores_are_ordered_by_id_and_place(store: Store) -> None:
    ids = [f"{i:03}" for i in range(300)]
    store.upsert("c", [clip(item_id, [7, 7, 8]) for item_id in reversed(ids)], identity="one")
    for top_k in (1, 10, 299):
        hits = store.search("c", unit(7, DIM), top_k=top_k)
        assert [hit.item_id for hit in hits] == ids[:top_k]
        assert {(hit.score, hit.start_s) for hit in hits} == {(hits[0].score, 0.0)}
        assert hits[0].score <= 1


def test_min_score_cuts_where_it_says(store: Store) -> None:
    items = {f"i{n}": clip(f"i{n}", [n, n + 50]) for n in range(40)}
    store.upsert("c", list(items.values()), identity="one")
    every = store.search("c", unit(3, DIM), top_k=40)
    cut = every[13].score
    assert store.search("c", unit(3, DIM), top_k=40, min_score=cut) == every[:14]
    assert store.search("c", unit(3, DIM), top_k=5, min_score=cut) == every[:5]
    assert store.search("c", unit(3, DIM), top_k=5, min_score=1.1) == []
    assert store.search("c", unit(3, DIM), top_k=40, min_score=-1) == every


def test_a_search_refuses_what_it_cannot_answer(store: Store) -> None:
    assert store.search("c", unit(1, DIM), top_k=3) == []
    store.upsert("c", [clip("a", [1])], identity="one")
    with pytest.raises(DimensionMismatch):
        store.search("c", unit(1, DIM + 1), top_k=3)
    with pytest.raises(InvalidInput):
        store.search("c", unit(1, DIM) * 3, top_k=3)
    for top_k in (0, 10_001):
        with pytest.raises(InvalidInput):
            store.search("c", unit(1, DIM), top_k=top_k)


def test_content_hashes_tell_what_is_there(store: Store) -> None:
    items = [clip("a", [1]), clip("b'\"", [2])]
    store.upsert("c", items, identity="one")
    assert store.content_hashes("c") == {one.id: one.content_sha256 for one in items}
    assert store.content_hashes("c", ["b'\"", "none", "bad\0", "\ud800"]) == {"b'\"": items[1].content_sha256}
    assert store.content_hashes("c", []) == {}


def test_items_are_got_by_their_ids(store: Store) -> None:
    store.upsert("c", [clip("a", [1], metadata={"n": 1}), clip("b'\"", [2])], identity="one")
    found = store.get_items("c", ["b'\"", "a", "a", "none", "bad\0", "\ud800"])
    assert found == {item_id: store.get_item("c", item_id) for item_id in ("a", "b'\"")}
    assert store.get_items("c", []) == {}


def test_a_restart_changes_nothing(backend: Backend, tmp_path: Path) -> None:
    items = {f"i{n}": clip(f"i{n}", [n, n + 1], metadata={"n": n, "t": ["x", n]}) for n in range(30)}
    query = unit(400, DIM)
    with closing(backend.open(tmp_path)) as store:
        store.create_collection("c", dim=DIM, identity="one", description="d")
        store.create_collection("empty", dim=3, identity="two")
        store.upsert("c", list(items.values()), identity="one")
        store.delete_item("c", "i3")
        store.patch_metadata("c", "i4", {"n": 400})
        before = (store.list_collections(), store.list_items("c"), store.search("c", query, top_k=30))
        vectors = store.item_vectors("c", "i7")
    with closing(backend.open(tmp_path)) as store:
        assert (store.list_collections(), store.list_items("c"), store.search("c", query, top_k=30)) == before
        assert np.array_equal(store.item_vectors("c", "i7"), vectors)
        store.upsert("c", [items["i3"]], identity="one")
        assert store.get_item("c", "i3").segments == 2
    with closing(backend.open(tmp_path)) as store:
        assert store.get_collection("c").items == 30


def test_a_closed_store_says_so(backend: Backend, tmp_path: Path) -> None:
    store = backend.open(tmp_path)
    store.create_collection("c", dim=DIM, identity="one")
    store.close()
    store.close()
    for call in (
        lambda: store.list_collections(),
        lambda: store.search("c", unit(1, DIM), top_k=1),
        lambda: store.upsert("c", [clip("a", [1])], identity="one"),
        lambda: store.delete_collection("c"),
    ):
        with pytest.raises(StoreClosed):
            call()


def test_hits_carry_their_best_segments_vector_where_asked(store: Store) -> None:
    items = [clip("a", [1, 2]), clip("b", [3]), clip("c", [4, 5, 6])]
    store.upsert("c", items, identity="one")
    query = unit(2, DIM)
    plain = store.search("c", query, top_k=3)
    assert all(hit.vector is None for hit in plain)
    hits = store.search("c", query, top_k=3, with_vectors=True)
    assert hits == plain, "the same hits, in the same order"
    by_id = {item.id: item for item in items}
    for hit in hits:
        (segment,) = (one for one in by_id[hit.item_id].segments if one.start_s == hit.start_s)
        assert hit.vector is not None
        np.testing.assert_allclose(hit.vector, segment.vector, atol=1e-6)
        assert float(hit.vector @ query) == pytest.approx(hit.score, abs=1e-5)


def test_no_way_in_passes_the_bound_on_metadata(store: Store) -> None:
    most = Limits().max_metadata_bytes
    half = {"a": "x" * (Limits().max_text_chars - 100)}
    with pytest.raises(MetadataTooLarge) as refused:
        store.upsert("c", [clip("a", [1], metadata={**half, "b": half["a"], "c": half["a"]})], identity="one")
    assert refused.value.limit == most
    store.upsert("c", [clip("a", [1], metadata=half)], identity="one")
    store.patch_metadata("c", "a", {"b": half["a"]})
    with pytest.raises(MetadataTooLarge):
        store.patch_metadata("c", "a", {"c": "x" * 300})
    assert store.get_item("c", "a").metadata.keys() == {"a", "b"}
