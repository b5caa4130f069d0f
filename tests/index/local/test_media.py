"""Original audio: kept once a content, as long as an item refers to it, and never left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from index.errors import ItemNotFound, MediaNotKept, StorageFailed
from index.local.store import LocalStore
from tests.support.index_oracle import clip


def files(folder: Path) -> list[Path]:
    """Every media file of a data folder, staged or published."""
    return sorted(path for path in (folder / "media").rglob("*") if path.is_file())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore(tmp_path) as store:
        store.create_collection("c", dim=16, identity="x")
        yield store


def test_media_come_back_as_they_were(store: LocalStore) -> None:
    store.upsert("c", [clip("a", [1], media=b"RIFF\0\xff"), clip("b", [1])], identity="x")
    path, media_type = store.media_path("c", "a")
    assert (path.read_bytes(), media_type) == (b"RIFF\0\xff", "audio/wav")
    assert store.get_item("c", "a").has_media
    assert not store.get_item("c", "b").has_media
    assert store.get_item("c", "b").media_type is None
    with pytest.raises(MediaNotKept):
        store.media_path("c", "b")
    with pytest.raises(ItemNotFound):
        store.media_path("c", "none")
    path.unlink()
    with pytest.raises(MediaNotKept):
        store.media_path("c", "a")


def test_equal_media_are_one_file_until_the_last_item_goes(store: LocalStore, tmp_path: Path) -> None:
    store.create_collection("d", dim=16, identity="x")
    store.upsert("c", [clip("a", [1], media=b"same"), clip("b", [1], media=b"same")], identity="x")
    store.upsert("d", [clip("a", [1], media=b"same"), clip("e", [1], media=b"other")], identity="x")
    assert len(files(tmp_path)) == 2
    store.delete_item("c", "a")
    store.upsert("c", [clip("b", [1], media=b"changed")], identity="x")
    assert store.media_path("d", "a")[0].read_bytes() == b"same"
    assert len(files(tmp_path)) == 3
    store.upsert("d", [clip("a", [1])], identity="x")
    assert {path.read_bytes() for path in files(tmp_path)} == {b"changed", b"other"}
    store.delete_collection("d")
    assert {path.read_bytes() for path in files(tmp_path)} == {b"changed"}
    store.delete_item("c", "b")
    assert files(tmp_path) == []


def test_a_refused_upsert_leaves_no_file(store: LocalStore, tmp_path: Path) -> None:
    store.upsert("c", [clip("a", [1], media=b"kept")], identity="x")
    # A file where a shard's folder must be: the disk refuses the second of two media.
    second = clip("b", [1], media=b"second")
    shard = tmp_path / "media" / "16"  # sha256(b"second") starts with 16
    shard.write_bytes(b"")
    with pytest.raises(StorageFailed):
        store.upsert("c", [clip("a", [2], media=b"first"), second], identity="x")
    shard.unlink()
    assert {path.read_bytes() for path in files(tmp_path)} == {b"kept"}
    assert store.media_path("c", "a")[0].read_bytes() == b"kept"
    assert store.upsert("c", [second], identity="x") == [True]


def test_leftovers_are_swept_when_the_store_opens(tmp_path: Path) -> None:
    with LocalStore(tmp_path) as store:
        store.create_collection("c", dim=16, identity="x")
        store.upsert("c", [clip("a", [1], media=b"kept")], identity="x")
        kept = store.media_path("c", "a")[0]
    (tmp_path / "media" / "staging" / "half").write_bytes(b"ha")
    orphan = tmp_path / "media" / "ab" / ("ab" + "0" * 62)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"orphan")
    with LocalStore(tmp_path) as store:
        assert files(tmp_path) == [kept]
        assert store.media_path("c", "a")[0].read_bytes() == b"kept"


def test_a_store_may_keep_no_media_and_still_has_those_of_before(tmp_path: Path) -> None:
    with LocalStore(tmp_path) as store:
        store.create_collection("c", dim=16, identity="x")
        store.upsert("c", [clip("a", [1], media=b"kept")], identity="x")
    with LocalStore(tmp_path, keep_media=False) as store:
        store.upsert("c", [clip("b", [1], media=b"not kept")], identity="x")
        assert not store.get_item("c", "b").has_media
        assert store.media_path("c", "a")[0].read_bytes() == b"kept"
        assert len(files(tmp_path)) == 1
