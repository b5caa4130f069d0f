"""Snapshots are a cache: used when whole and of this catalog, replaced without a word lost when anything is wrong."""

from __future__ import annotations

import json
import resource
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from index.errors import StorageFailed
from index.local.store import LocalStore
from tests.support.index_clusters import SMALL, clustered, items_of

DIM = 16
COUNT = 1500
VECTORS = clustered(COUNT + 200, DIM)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose index was saved, after which ten items went and ten came."""
    folder = tmp_path_factory.mktemp("saved")
    with LocalStore(folder, settings=SMALL) as store:
        store.create_collection("c", dim=DIM, identity="bundle one")
        store.upsert("c", items_of(VECTORS[:COUNT]), identity="bundle one")
        store.maintenance.settle()
        for number in range(10):
            store.delete_item("c", f"{number:07}")
        store.upsert("c", items_of(VECTORS[COUNT : COUNT + 10], COUNT), identity="bundle one")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "data"))


def index_file(folder: Path) -> Path:
    (path,) = (folder / "index").glob("*.faiss")
    return path


def manifest(folder: Path) -> Path:
    (path,) = (folder / "index").glob("*.json")
    return path


def check(folder: Path, *, used: bool) -> None:
    """Everything is found and nothing else, whether the snapshot was used or not; then it is saved again."""
    with LocalStore(folder, settings=SMALL) as store:
        assert (store.maintenance.facts("c").frozen is not None) == used
        _check_content(store)
        store.maintenance.settle()
        assert store.maintenance.facts("c").frozen is not None
        _check_content(store)
    with LocalStore(folder, settings=SMALL) as store:
        assert store.maintenance.facts("c").frozen is not None
        _check_content(store)


def _check_content(store: LocalStore) -> None:
    hits = store.search("c", VECTORS[COUNT + 100], top_k=COUNT + 100)
    assert {hit.item_id for hit in hits} == {f"{number:07}" for number in range(10, COUNT + 10)}
    for number in (10, 700, COUNT + 5):
        (hit,) = store.search("c", VECTORS[number], top_k=1)
        assert (hit.item_id, round(hit.score, 5)) == (f"{number:07}", 1.0)


def test_a_whole_snapshot_is_used_and_what_came_after_is_replayed(folder: Path) -> None:
    with LocalStore(folder, settings=SMALL) as store:
        facts = store.maintenance.facts("c")
        assert (facts.vectors, facts.delta, facts.dead, facts.saved) == (COUNT, 10, 10, COUNT)
    check(folder, used=True)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 0x10
    path.write_bytes(data)


def flip_first(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 0x01
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, empty, flip, flip_first, Path.unlink])
@pytest.mark.parametrize("which", [index_file, manifest])
def test_a_damaged_or_missing_snapshot_is_rebuilt(
    folder: Path, which: Callable[[Path], Path], damage: Callable[[Path], None]
) -> None:
    damage(which(folder))
    check(folder, used=False)


@pytest.mark.parametrize("field", ["catalog", "collection", "dim", "identity"])
def test_a_snapshot_of_something_else_is_rebuilt(folder: Path, field: str) -> None:
    path = manifest(folder)
    told = json.loads(path.read_text().partition(" ")[2])
    told["binding"][field] = 99 if field in ("collection", "dim") else "another bundle"
    body = json.dumps(told)
    path.write_text(f"{zlib.crc32(body.encode()):08x} {body}")
    check(folder, used=False)


def test_a_snapshot_of_another_format_is_rebuilt(folder: Path) -> None:
    body = json.dumps({"format": 99})
    manifest(folder).write_text(f"{zlib.crc32(body.encode()):08x} {body}")
    check(folder, used=False)


def test_a_collection_made_anew_for_another_bundle_does_not_get_the_old_index(folder: Path) -> None:
    kept = shutil.copytree(folder / "index", folder.parent / "kept")
    with LocalStore(folder, settings=SMALL) as store:
        store.delete_collection("c")
        assert not list((folder / "index").iterdir())
        store.create_collection("c", dim=DIM, identity="bundle two")
        store.upsert("c", items_of(VECTORS[:100]), identity="bundle two")
    # Even files put back by hand, under the new collection's number, are not taken for its own.
    for file in kept.iterdir():
        shutil.copy(file, folder / "index" / file.name.replace("1", "2", 1))
    with LocalStore(folder, settings=SMALL) as store:
        assert store.maintenance.facts("c").frozen is None
        assert len(store.search("c", VECTORS[3], top_k=200)) == 100


def test_a_catalog_put_back_by_hand_does_not_get_the_newer_index(tmp_path: Path) -> None:
    data, old = tmp_path / "data", tmp_path / "old.sqlite"
    with LocalStore(data, settings=SMALL) as store:
        store.create_collection("c", dim=DIM, identity="x")
        store.upsert("c", items_of(VECTORS[:900]), identity="x")
    shutil.copy(data / "catalog.sqlite", old)
    with LocalStore(data, settings=SMALL) as store:
        store.upsert("c", items_of(VECTORS[900:1200], 900), identity="x")
        store.maintenance.settle()
        assert store.maintenance.facts("c").saved == 1200
    shutil.copy(old, data / "catalog.sqlite")
    with LocalStore(data, settings=SMALL) as store:
        assert store.maintenance.facts("c").frozen is None
        # The same keys now stand for other vectors.
        store.upsert("c", items_of(VECTORS[1300:1600], 900), identity="x")
    with LocalStore(data, settings=SMALL) as store:
        assert store.maintenance.facts("c").frozen is None
        (hit,) = store.search("c", VECTORS[1300], top_k=1)
        assert (hit.item_id, round(hit.score, 5)) == ("0000900", 1.0)


def test_leftovers_of_a_kill_are_swept(folder: Path) -> None:
    for name in ("1-9.faiss.tmp", "1.json.tmp", "7.json", "7-1.faiss", "1-9.tmp"):
        (folder / "index" / name).write_bytes(b"half")
    check(folder, used=True)
    assert {path.suffix for path in (folder / "index").iterdir()} == {".json", ".faiss"}
    assert len(list((folder / "index").iterdir())) == 2


def test_a_folder_of_the_first_version_is_upgraded_in_place(tmp_path: Path) -> None:
    with LocalStore(tmp_path, settings=SMALL) as store:
        store.create_collection("c", dim=DIM, identity="x")
        store.upsert("c", items_of(VECTORS[:50]), identity="x")
    with sqlite3.connect(tmp_path / "catalog.sqlite") as connection:
        connection.executescript(
            "DROP TABLE meta; DROP INDEX segments_collection; ALTER TABLE collections DROP COLUMN changes;"
            " PRAGMA user_version = 1;"
        )
    connection.close()
    with LocalStore(tmp_path, settings=SMALL) as store:
        assert len(store.search("c", VECTORS[0], top_k=100)) == 50
        store.upsert("c", items_of(VECTORS[:1200]), identity="x")
        store.maintenance.settle()
        assert store.maintenance.facts("c").saved == 1200


def test_a_full_disk_costs_the_snapshot_and_nothing_else(tmp_path: Path) -> None:
    with LocalStore(tmp_path, settings=SMALL) as store:
        store.create_collection("c", dim=DIM, identity="x")
        store.upsert("c", items_of(VECTORS[:COUNT]), identity="x")
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, most))
        try:
            with pytest.raises(StorageFailed):
                store.maintenance.settle()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        assert not list((tmp_path / "index").iterdir())
        facts = store.maintenance.facts("c")
        assert facts.frozen is not None
        assert facts.saved == 0
        assert store.search("c", VECTORS[9], top_k=1)[0].item_id == "0000009"
        store.maintenance.settle()
        assert store.maintenance.facts("c").saved == COUNT
    with LocalStore(tmp_path, settings=SMALL) as store:
        assert store.maintenance.facts("c").saved == COUNT
