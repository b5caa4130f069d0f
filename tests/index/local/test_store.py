"""What only the store on one machine promises: a damaged catalog is refused, a mirror that fell behind made anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from index.errors import StorageFailed
from index.local.store import LocalStore
from tests.support.index_oracle import check_hits, clip, unit

DIM = 16


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore(tmp_path / "data") as store:
        store.create_collection("c", dim=DIM, identity="one")
        yield store


@pytest.mark.parametrize("damage", ["not a database" * 1000, "newer"])
def test_a_catalog_that_cannot_be_read_is_refused_and_the_folder_let_go(tmp_path: Path, damage: str) -> None:
    LocalStore(tmp_path).close()
    path = tmp_path / "catalog.sqlite"
    good = path.read_bytes()
    # Bytes 60 to 63 of an SQLite file are its user version.
    path.write_bytes(good[:60] + b"\0\0\0\x63" + good[64:] if damage == "newer" else damage.encode())
    for _ in range(2):
        with pytest.raises(StorageFailed):
            LocalStore(tmp_path)
    path.write_bytes(good)
    LocalStore(tmp_path).close()


def test_a_mirror_that_fails_to_follow_is_made_anew(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    items = {f"i{n}": clip(f"i{n}", [n]) for n in range(10)}
    store.upsert("c", list(items.values()), identity="one")
    _, index = store._mirror.get("c")

    def out_of_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(index, "add", out_of_memory)
    items["i3"] = clip("i3", [77])
    assert store.upsert("c", [items["i3"]], identity="one") == [False]
    check_hits(store.search("c", unit(77, DIM), top_k=20), items, unit(77, DIM), 20, 1e-5)
