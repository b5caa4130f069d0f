"""Remembered answers of filters follow the changes of a collection, and are read anew where they cannot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from index.filters import Filter, parse_filter
from index.local import filter_cache as matching
from index.local.changelog import Change, ChangeLog
from index.local.segments import matching_segments
from index.local.store import LocalStore
from index.types import Ids, NewItem
from tests.support.index_oracle import clip, unit

DIM = 16
MANY = 200
WHERE = parse_filter({"kind": "a"})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """How many items each reading of the catalog asked: None for all."""
    seen: list[int | None] = []

    def seeing(*given: Any, among: Sequence[int] | None = None) -> Ids:
        seen.append(None if among is None else len(among))
        return matching_segments(*given, among=among)

    monkeypatch.setattr(matching, "matching_segments", seeing)
    return seen


def one(number: int, kind: str | None) -> NewItem:
    """An item of one or two segments."""
    return clip(f"{number:04}", [number, number + 1][: 1 + number % 2], DIM, {} if kind is None else {"kind": kind})


def found(store: LocalStore, where: Filter = WHERE, exclude: Sequence[str] = ()) -> set[int]:
    hits = store.search("c", unit(1, DIM), top_k=1000, where=where, exclude_ids=exclude)
    return {int(hit.item_id) for hit in hits}


def filled(folder: Path) -> LocalStore:
    store = LocalStore(folder)
    store.create_collection("c", dim=DIM, identity="x")
    store.upsert("c", [one(number, "ab"[number % 2]) for number in range(MANY)], identity="x")
    return store


def test_every_kind_of_change_is_followed(tmp_path: Path, asked: list[int | None]) -> None:
    with filled(tmp_path) as store:
        expected = set(range(0, MANY, 2))
        assert found(store) == expected
        store.patch_metadata("c", "0001", {"kind": "a"})
        assert found(store) == expected | {1}
        store.patch_metadata("c", "0002", {"kind": None})
        store.delete_item("c", "0004")
        assert found(store) == expected - {2, 4} | {1}
        store.upsert("c", [one(6, "b"), one(7, "a"), one(8, "a"), one(MANY, "a"), one(MANY + 1, "b")], identity="x")
        assert found(store) == expected - {2, 4, 6} | {1, 7, MANY}
        store.delete_item("c", f"{MANY:04}")
        store.upsert("c", [one(4, "a")], identity="x")
        assert found(store) == expected - {2, 6} | {1, 7}
        assert asked == [None, 1, 2, 5, 2], "all items once, and then only those that changed"


def test_an_excluded_item_that_changes_or_comes_stays_excluded(tmp_path: Path, asked: list[int | None]) -> None:
    with filled(tmp_path) as store:
        without = ["0000", f"{MANY:04}"]
        assert found(store, exclude=without) == set(range(2, MANY, 2))
        store.upsert("c", [one(0, "a"), one(MANY, "a")], identity="x")
        store.patch_metadata("c", "0003", {"kind": "a"})
        assert found(store, exclude=without) == {*range(2, MANY, 2), 3}
        assert asked == [None, 3]


def test_an_answer_that_too_much_has_happened_since_is_read_anew(tmp_path: Path, asked: list[int | None]) -> None:
    with filled(tmp_path) as store:
        found(store)
        store.upsert("c", [one(number, "a") for number in range(MANY)], identity="x")
        assert found(store) == set(range(MANY))
        assert asked == [None, None]


def test_a_collection_made_anew_remembers_nothing(tmp_path: Path) -> None:
    with filled(tmp_path) as store:
        found(store)
        store.delete_collection("c")
        store.create_collection("c", dim=DIM, identity="x")
        store.upsert("c", [one(3, "a")], identity="x")
        assert found(store) == {3}


def test_a_log_with_a_gap_says_so() -> None:
    log = ChangeLog()
    assert log.between(0, 0) is None
    log.add(2, Change([10, 11]))
    log.add(3, Change([10], removed=[5]))
    touched = log.between(0, 3)
    assert touched is not None
    assert (set(touched.items), set(touched.removed)) == ({10, 11}, {5})
    assert log.between(1, 3) is None, "the first commit brought the count from 0 to 2"
    assert log.between(0, 4) is None, "nobody told of the fourth"
    log.add(5, Change([12]))
    assert log.between(3, 5) is None, "nor later"
    assert log.between(4, 5) is not None


def test_a_log_forgets_the_oldest() -> None:
    log = ChangeLog()
    for count in range(1, 4):
        log.add(count * 40_000, Change(range(40_000)))
    assert log.between(80_000, 120_000) is not None
    assert log.between(40_000, 120_000) is None
