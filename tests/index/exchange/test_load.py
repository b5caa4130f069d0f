"""Parquet shards: what is written comes back exactly, what is not ours is refused, and both backends load it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index.backend import Store
from index.errors import CollectionNotFound, DimensionMismatch, IdentityMismatch, InvalidInput
from index.exchange.load import load
from index.types import MediaBlob, NewItem
from tests.support.index_oracle import clip, unit

pa = pytest.importorskip("pyarrow", reason="Parquet needs the scale extra")
pq = pytest.importorskip("pyarrow.parquet")

from index.exchange import parquet  # noqa: E402

DIM = 16


def corpus(count: int, start: int = 0) -> list[NewItem]:
    return [clip(f"é{i}", [*range(i, i + 1 + i % 3)], DIM, {"n": i, "t": ["x", None]}) for i in range(start, count)]


def test_what_is_written_comes_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    items = corpus(100)
    size = parquet.write(path, items, dim=DIM, identity="ünit")
    assert parquet.facts(path) == parquet.ShardFacts("ünit", DIM, 100, size)
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]
    read = [item for batch in parquet.read(path, dim=DIM, identity="ünit", batch=7) for item in batch]
    for one, other in zip(items, read, strict=True):
        assert (one.id, one.metadata, one.duration_s, one.content_sha256, one.filename) == (
            other.id,
            other.metadata,
            other.duration_s,
            other.content_sha256,
            other.filename,
        )
        for mine, theirs in zip(one.segments, other.segments, strict=True):
            assert (mine.start_s, mine.end_s) == (theirs.start_s, theirs.end_s)
            assert np.array_equal(mine.vector, theirs.vector)
    assert parquet.names(path) == [(item.id, item.content_sha256, item.metadata) for item in items]


def test_what_is_not_ours_is_refused_before_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write(path, corpus(3), dim=DIM, identity="x")
    with pytest.raises(IdentityMismatch):
        next(parquet.read(path, dim=DIM, identity="y"))
    with pytest.raises(DimensionMismatch):
        next(parquet.read(path, dim=DIM + 1, identity="x"))
    with pytest.raises(DimensionMismatch):
        parquet.write(tmp_path / "b.parquet", [clip("a", [1], 4)], dim=DIM, identity="x")
    assert not (tmp_path / "b.parquet").exists()
    table = pq.read_table(path)
    for name, other in {
        "no metadata": table.replace_schema_metadata({}),
        "no id": table.drop_columns(["id"]),
        "other type": table.set_column(0, "id", pa.array([1, 2, 3])),
    }.items():
        pq.write_table(other, tmp_path / "c.parquet")
        with pytest.raises(InvalidInput, match=r"c\.parquet"):
            parquet.facts(tmp_path / "c.parquet")
        assert name
    for broken in (b"", b"PAR1 and no more", path.read_bytes()[:-20]):
        (tmp_path / "d.parquet").write_bytes(broken)
        with pytest.raises(InvalidInput, match=r"d\.parquet"):
            parquet.facts(tmp_path / "d.parquet")
    with pytest.raises(InvalidInput, match=r"missing\.parquet"):
        parquet.facts(tmp_path / "missing.parquet")


def test_a_load_goes_on_where_it_was_cut_off(store: Store, tmp_path: Path) -> None:
    parts = [tmp_path / f"part-{i}.parquet" for i in range(3)]
    for i, part in enumerate(parts):
        parquet.write(part, corpus(20 * (i + 1), 20 * i), dim=DIM, identity="one")
    assert vars(load(store, "c", parts[:1], batch=7)) == {"added": 20, "replaced": 0, "relabelled": 0, "unchanged": 0}
    seen: list[tuple[int, int]] = []
    report = load(store, "c", parts, batch=7, tick=lambda done, of: seen.append((done, of)))
    assert vars(report) == {"added": 40, "replaced": 0, "relabelled": 0, "unchanged": 20}
    assert seen[-1] == (60, 60)
    parquet.write(parts[0], [clip("é3", [999], DIM), *corpus(3)], dim=DIM, identity="one")
    assert vars(load(store, "c", parts[:1])) == {"added": 0, "replaced": 1, "relabelled": 0, "unchanged": 3}
    assert store.search("c", unit(999, DIM), top_k=1)[0].item_id == "é3"
    assert store.get_collection("c").items == 60


def test_other_metadata_is_taken_up_and_audio_stays(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    before = [clip(name, [i], DIM, {"take": 1, "draft": True}) for i, name in enumerate(("kept", "bare", "same"))]
    parquet.write(path, before, dim=DIM, identity="one")
    load(store, "c", [path])
    store.upsert("c", [replace(before[0], media=MediaBlob(b"audio", "audio/wav"))], identity="one")
    after = [replace(item, metadata={"take": 2, "t": ["x"]}) for item in before[:2]]
    parquet.write(path, [*after, before[2], clip("new", [9], DIM)], dim=DIM, identity="one")
    report = {"added": 1, "replaced": 0, "relabelled": 2, "unchanged": 1}
    assert vars(load(store, "c", [path])) == report
    assert vars(load(store, "c", [path])) == {"added": 0, "replaced": 0, "relabelled": 0, "unchanged": 4}
    found = store.get_items("c", ["kept", "bare", "same"])
    assert [found[name].metadata for name in ("kept", "bare", "same")] == [
        {"take": 2, "t": ["x"]},
        {"take": 2, "t": ["x"]},
        {"take": 1, "draft": True},
    ]
    assert (found["kept"].has_media, store.media_path("c", "kept")[0].read_bytes()) == (True, b"audio")

    # Rows that say nothing, of the same content and of another, take nothing away.
    parquet.write(path, [clip("kept", [0], DIM), clip("bare", [99], DIM)], dim=DIM, identity="one")
    assert vars(load(store, "c", [path])) == {"added": 0, "replaced": 1, "relabelled": 0, "unchanged": 1}
    assert all(store.get_item("c", name).metadata == {"take": 2, "t": ["x"]} for name in ("kept", "bare"))


def test_a_load_makes_its_collection_and_refuses_another_identity(store: Store, tmp_path: Path) -> None:
    mine, other = tmp_path / "mine.parquet", tmp_path / "other.parquet"
    parquet.write(mine, corpus(4), dim=DIM, identity="one")
    parquet.write(other, corpus(4), dim=DIM, identity="two")
    load(store, "made", [mine])
    assert store.get_collection("made").identity == "one"
    for files in ([other], [mine, other]):
        with pytest.raises(IdentityMismatch):
            load(store, "c", files)
    with pytest.raises(IdentityMismatch):
        load(store, "new", [other, mine])
    with pytest.raises(CollectionNotFound):
        store.get_collection("new")
    assert store.list_items("c") == ([], None)
    with pytest.raises(InvalidInput):
        load(store, "c", [])
