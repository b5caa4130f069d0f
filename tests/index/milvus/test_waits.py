"""A server holds each read back for its next tick: how few reads a call takes, and that it is of one moment still."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from index.errors import UnknownField
from index.filters import parse_filter
from index.milvus.index import MilvusStore
from index.milvus.reads import Reads
from tests.support.index_backends import group
from tests.support.index_oracle import clip, unit

DIM = 16


def test_what_is_known_as_committed_is_not_asked_for_again(
    pair: tuple[MilvusStore, MilvusStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair
    one.upsert("c", group(1), identity="x")
    while one.tidying.once(wait=False):  # the log forgets it: from then on only the reader knows
        pass
    view, views = two._log.view, []

    def counted(home: str) -> Any:
        views.append(home)
        return view(home)

    monkeypatch.setattr(two._log, "view", counted)
    for expected in (2, 1, 1):
        assert len(two.search("c", unit(1, DIM), top_k=10)) == 4
        assert len(views) == expected
        views.clear()
    one.upsert("c", [clip("new", [2], DIM, {"number": 1})], identity="x")
    assert len(two.search("c", unit(1, DIM), top_k=10)) == 5
    assert len(views) == 1  # it is in the log


def test_what_another_read_learned_meanwhile_is_not_for_a_read_that_began_before(
    pair: tuple[MilvusStore, MilvusStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair
    one.upsert("c", group(1), identity="x")
    view = two._log.view

    def view_then_write(home: str) -> Any:
        seen = view(home)
        monkeypatch.setattr(two._log, "view", view)
        one.upsert("c", group(2, 6), identity="x")
        assert len(two.search("c", unit(2, DIM), top_k=10)) == 6
        return seen

    monkeypatch.setattr(two._log, "view", view_then_write)
    hits = two.search("c", unit(2, DIM), top_k=10)
    assert [(hit.item_id, hit.metadata["number"]) for hit in hits] == [(f"i{i}", 1) for i in range(4)]


def test_the_number_of_changes_remembered_is_bounded(
    pair: tuple[MilvusStore, MilvusStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.milvus.reads._SETTLED", 3)
    store = pair[0]
    for i in range(6):
        store.upsert("c", [clip(f"i{i}", [i])], identity="x")
        assert len(store.search("c", unit(1, DIM), top_k=10)) == i + 1
    reads: Reads = store._reads
    assert len(reads._settled) == 3


def test_what_milvus_has_not_read_of_its_log_yet_is_waited_for(
    pair: tuple[MilvusStore, MilvusStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = pair[0]
    store.upsert("c", group(1), identity="x")
    find, late = store._link.find, []

    def behind(collection: str, expression: str, fields: Sequence[str], *, now: bool = True, **more: Any) -> Any:
        rows = find(collection, expression, fields, now=now, **more)
        if now:
            return rows
        late.append(len(rows))
        return rows[:1]

    monkeypatch.setattr(store._link, "find", behind)
    hits = store.search("c", unit(1, DIM), top_k=10)
    assert [(hit.item_id, hit.metadata) for hit in hits] == [(f"i{i}", {"number": 1}) for i in range(4)]
    assert len(late) == 1


def test_an_unknown_field_is_told_whatever_the_search_beside_it_finds(
    pair: tuple[MilvusStore, MilvusStore],
) -> None:
    store = pair[0]
    store.upsert("c", [clip("a", [1], DIM, {"n": 1, "m": 2})], identity="x")
    for where in ({"n": 1, "o": 2}, {"any": [{"n": 1}, {"o": 1}]}):
        with pytest.raises(UnknownField) as unknown:
            store.search("c", unit(1, DIM), top_k=3, where=parse_filter(where))
        assert (unknown.value.field, unknown.value.known) == ("o", ["m", "n"])
