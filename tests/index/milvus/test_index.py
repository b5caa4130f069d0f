"""What is Milvus' own: replicas on one server, readers between writes, leftovers, refusals."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from index.errors import CollectionNotFound, IdentityMismatch, InvalidInput, MediaNotKept, StorageFailed
from index.filters import parse_filter
from index.milvus.connection import Link, MilvusSettings
from index.milvus.index import MilvusStore
from index.milvus.rows import number_key
from index.milvus.transaction_log import Change
from index.types import NewSegment
from tests.support.index_backends import Backend, group
from tests.support.index_oracle import clip, unit

DIM = 16


def hold(store: MilvusStore, monkeypatch: pytest.MonkeyPatch, name: str) -> tuple[threading.Event, threading.Event]:
    """Make the next call of the link's `name` wait once it is done: (it is done, let it go on)."""
    done, go = threading.Event(), threading.Event()
    original: Callable[..., Any] = getattr(store._link, name)

    def held(*args: Any) -> Any:
        result = original(*args)
        monkeypatch.setattr(store._link, name, original)
        done.set()
        assert go.wait(60)
        return result

    monkeypatch.setattr(store._link, name, held)
    return done, go


def test_what_one_replica_acknowledged_the_other_finds(pair: tuple[MilvusStore, MilvusStore]) -> None:
    one, two = pair
    for number in range(1, 6):
        writer, reader = (one, two) if number % 2 else (two, one)
        writer.upsert("c", group(number), identity="x")
        hits = reader.search("c", unit(number, DIM), top_k=10)
        assert [(hit.item_id, hit.metadata["number"]) for hit in hits] == [(f"i{i}", number) for i in range(4)]
        assert reader.get_collection("c").segments == 4 * (1 + number % 3)
    two.delete_item("c", "i1")
    assert [item.id for item in one.list_items("c")[0]] == ["i0", "i2", "i3"]
    assert one.patch_metadata("c", "i0", {"by": "one"}).metadata == {"number": 5, "by": "one"}
    assert two.patch_metadata("c", "i0", {"also": "two"}).metadata == {"number": 5, "by": "one", "also": "two"}
    with pytest.raises(IdentityMismatch):
        two.upsert("c", group(7), identity="y")
    two.delete_collection("c")
    two.create_collection("c", dim=DIM, identity="y")
    with pytest.raises(IdentityMismatch):
        one.upsert("c", group(7), identity="x")
    assert one.search("c", unit(1, DIM), top_k=5) == []


def test_one_name_is_one_collection_however_many_make_it(pair: tuple[MilvusStore, MilvusStore]) -> None:
    for round_ in range(3):
        name, start = f"n{round_}", threading.Barrier(4)

        def make(store: MilvusStore, name: str = name, start: threading.Barrier = start) -> bool:
            start.wait()
            return store.create_collection(name, dim=DIM, identity="x")[1]

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(make, [*pair, *pair])) == 1
        pair[0].upsert(name, group(1), identity="x")
        assert pair[1].get_collection(name).items == 4
    assert [info.name for info in pair[0].list_collections()] == ["c", "n0", "n1", "n2"]
    homes = [name for name in pair[0]._link.collections() if name.startswith(f"{pair[0]._homes._prefix}_c_")]
    assert len(homes) == 4


def test_rows_without_their_commit_are_seen_by_nobody(
    pair: tuple[MilvusStore, MilvusStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = pair
    one.upsert("c", group(1), identity="x")
    done, go = hold(one, monkeypatch, "insert")
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(one.upsert, "c", [*group(2), clip("new", [2], DIM, {"fresh": 1})], identity="x")
        assert done.wait(60)
        for reader in pair:
            hits = reader.search("c", unit(2, DIM), top_k=10)
            assert {hit.metadata["number"] for hit in hits} == {1}
            assert len(hits) == 4
            assert [item.metadata["number"] for item in reader.list_items("c")[0]] == [1] * 4
            info = reader.get_collection("c")
            assert (info.items, info.segments, info.metadata_fields) == (4, 8, ["number"])
        go.set()
        assert written.result(60) == [False] * 4 + [True]
    for reader in pair:
        assert {hit.metadata.get("number", 2) for hit in reader.search("c", unit(2, DIM), top_k=10)} == {2}


@pytest.mark.parametrize("writes", [1, 3])
def test_a_search_that_began_before_a_commit_sees_all_of_before(
    pair: tuple[MilvusStore, MilvusStore], monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    one, two = pair
    one.upsert("c", group(1), identity="x")
    # The reader has looked at the log and not yet at the rows, when the other replica commits.
    view = two._log.view
    calls = 0

    def view_then_write(home: str) -> Any:
        nonlocal calls
        calls += 1
        seen = view(home)
        if calls <= writes:
            one.upsert("c", [*group(1 + calls), clip(f"new{calls}", [2], DIM)], identity="x")
        return seen

    monkeypatch.setattr(two._log, "view", view_then_write)
    hits = two.search("c", unit(2, DIM), top_k=10)
    assert [hit.item_id for hit in hits] == ["i0", "i1", "i2", "i3"]
    assert {hit.metadata["number"] for hit in hits} == {1}
    assert len(two.search("c", unit(2, DIM), top_k=10)) == 4 + writes


def test_a_search_never_sees_part_of_an_upsert_of_another_replica(pair: tuple[MilvusStore, MilvusStore]) -> None:
    one, two = pair
    one.upsert("c", group(0), identity="x")
    done = threading.Event()
    where = parse_filter({"number": {"gte": 0}})

    def read(store: MilvusStore) -> set[int]:
        seen: set[int] = set()
        while not done.is_set() or not seen:
            for chosen in (None, where):
                hits = store.search("c", unit(1000, DIM), top_k=20, where=chosen)
                numbers = {hit.metadata["number"] for hit in hits}
                assert len(numbers) == 1 and len(hits) == 4, hits
                seen |= numbers
            assert len({item.metadata["number"] for item in store.list_items("c")[0]}) == 1
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read, store) for store in pair]
        try:
            for number in range(1, 25):
                (one if number % 2 else two).upsert("c", group(number), identity="x")
        finally:
            done.set()
        assert all(future.result() for future in readers)


def test_replicas_that_write_one_item_at_once_leave_one_version(
    pair: tuple[MilvusStore, MilvusStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair
    one.upsert("c", [clip("a", [1], DIM, {"n": 0})], identity="x")
    done, go = hold(one, monkeypatch, "insert")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(one.upsert, "c", [clip("a", [2, 3], DIM, {"n": 1})], identity="x")
        assert done.wait(60)
        two.upsert("c", [clip("a", [4], DIM, {"n": 2})], identity="x")
        go.set()
        assert first.result(60) == [False]
    for store in pair:
        info = store.get_collection("c")
        assert (info.items, info.segments) == (1, 1)
        assert store.get_item("c", "a").metadata == {"n": 2}
        assert [hit.metadata for hit in store.search("c", unit(2, DIM), top_k=5)] == [{"n": 2}]
        assert len(store.list_items("c")[0]) == 1


def test_audio_goes_with_its_version(milvus: Backend, tmp_path: Path) -> None:
    with closing(milvus.open(tmp_path)) as store:
        assert isinstance(store, MilvusStore)

        def files() -> list[bytes]:
            return sorted(path.read_bytes() for path in (tmp_path / "media").rglob("*") if path.is_file())

        store.create_collection("c", dim=DIM, identity="x")
        store.upsert("c", [clip("a", [1], media=b"one"), clip("b", [1], media=b"one")], identity="x")
        path, media_type = store.media_path("c", "a")
        assert (path.read_bytes(), media_type) == (b"one", "audio/wav")
        store.patch_metadata("c", "a", {"n": 1})
        store.upsert("c", [clip("b", [1], media=b"two")], identity="x")
        while store.tidying.once(wait=False):
            pass
        assert files() == [b"one", b"two"]
        assert store.media_path("c", "a")[0].read_bytes() == b"one"
        store.delete_item("c", "b")
        while store.tidying.once(wait=False):
            pass
        assert files() == [b"one"]
        store.delete_collection("c")
        assert files() == []
    with closing(milvus.open(tmp_path, keep_media=False)) as store:
        store.create_collection("c", dim=DIM, identity="x")
        store.upsert("c", [clip("a", [1], media=b"not kept")], identity="x")
        assert not store.get_item("c", "a").has_media
        with pytest.raises(MediaNotKept):
            store.media_path("c", "a")


def test_a_refusal_half_way_leaves_nothing(
    pair: tuple[MilvusStore, MilvusStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = pair
    one.upsert("c", group(1), identity="x")
    insert = one._link.insert

    def half(name: str, rows: list[Any]) -> None:
        insert(name, rows[:3])
        raise StorageFailed("the server went away")

    monkeypatch.setattr(one._link, "insert", half)
    with pytest.raises(StorageFailed, match="went away"):
        one.upsert("c", [*group(2), clip("new", [9], media=b"gone")], identity="x")
    monkeypatch.undo()
    for store in pair:
        assert {item.metadata["number"] for item in store.list_items("c")[0]} == {1}
        assert len(store.search("c", unit(2, DIM), top_k=10)) == 4
    assert one.upsert("c", [*group(2), clip("new", [9], DIM, {"number": 2})], identity="x")[-1] is True


def test_an_answer_lost_at_the_commit_is_looked_up(
    pair: tuple[MilvusStore, MilvusStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair
    write = one._log.write
    lost: list[Change] = []

    def written_but_not_answered(change: Change) -> None:
        write(change)
        if change.committed and not lost:
            lost.append(change)
            raise StorageFailed("the answer was lost")

    monkeypatch.setattr(one._log, "write", written_but_not_answered)
    assert one.upsert("c", group(1), identity="x") == [True] * 4
    assert lost
    assert len(two.list_items("c")[0]) == 4


def test_more_long_clips_than_one_answer_holds(
    pair: tuple[MilvusStore, MilvusStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.milvus.search.MAX_HITS", 64)
    store, query = pair[0], unit(5, DIM)
    items = [clip(f"far{i}", [100 + i], DIM) for i in range(5)]
    for place in range(3):
        near = [query + 0.02 * unit(1000 * place + i, DIM) for i in range(80)]
        segments = [NewSegment(i, i + 1, v / (v @ v) ** 0.5) for i, v in enumerate(near)]
        items.append(replace(clip(f"long{place}", [0]), segments=segments))
    store.upsert("c", items, identity="x")
    hits = store.search("c", query, top_k=8)
    assert {hit.item_id for hit in hits[:3]} == {"long0", "long1", "long2"}
    assert {hit.item_id for hit in hits} == {item.id for item in items}
    for hit in hits[:3]:
        segments = next(item.segments for item in items if item.id == hit.item_id)
        assert hit.score == pytest.approx(max(float(one.vector @ query) for one in segments), abs=1e-5)


def test_what_milvus_cannot_hold_is_refused_by_name(pair: tuple[MilvusStore, MilvusStore]) -> None:
    store = pair[0]
    large = {f"f{i}": "x" * 8000 for i in range(8)}
    with pytest.raises(InvalidInput, match=r"items\[1\].metadata"):
        store.upsert("c", [clip("a", [1]), clip("b", [1], metadata=large)], identity="x")
    with pytest.raises(InvalidInput, match="items"):
        store.upsert("c", [clip(f"{i}", [1]) for i in range(1001)], identity="x")
    assert store.list_items("c") == ([], None)


def test_a_server_that_is_not_there_is_storage_that_failed() -> None:
    with pytest.raises(StorageFailed, match="Milvus failed"):
        MilvusStore(MilvusSettings(uri="http://127.0.0.1:9", timeout_s=0.5))


def test_milvus_lite_in_this_process(tmp_path: Path) -> None:
    settings = MilvusSettings(uri=str(tmp_path / "library.db"), index_type="FLAT")
    with MilvusStore(settings) as store:
        store.create_collection("c", dim=DIM, identity="x")
        store.upsert("c", group(1), identity="x")
    with MilvusStore(settings) as store:
        assert [hit.item_id for hit in store.search("c", unit(1, DIM), top_k=2)] == ["i0", "i1"]
        store.delete_collection("c")
        with pytest.raises(CollectionNotFound):
            store.get_collection("c")


def test_numbers_sort_and_equal_as_digits() -> None:
    numbers = [-(2**63) + 1, -1e300, -(2**53) - 1, float(-(2**53)), -1.5, -1, 0, 5e-324, 0.1 + 0.2, 1, 2**53, 2**53 + 1]
    numbers += [2**62 + 1, 2**63 - 1, float(2**63), 1e300]
    assert sorted(numbers, key=number_key) == sorted(numbers)
    assert len({number_key(one) for one in numbers}) == len(numbers)
    assert number_key(-0.0) == number_key(0)
    assert number_key(2**53) == number_key(float(2**53)) != number_key(2**53 + 1)


@contextmanager
def breaking_proxy(uri: str) -> Iterator[str]:
    """In front of Milvus: breaks the first connection once the client's first call arrives; yields its address."""
    host, port = uri.removeprefix("http://").split(":")

    def copy(source: socket.socket, target: socket.socket, fatal: bool) -> None:
        with suppress(OSError):
            for number in count():
                data = source.recv(65536)
                if not data or (fatal and number and b"Connect" in data):
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            for number in count():
                near, _ = listener.accept()
                far = socket.create_connection((host, int(port)))
                seen.append(number)
                for source, target, fatal in ((near, far, number == 0), (far, near, False)):
                    Thread(target=copy, args=(source, target, fatal), daemon=True).start()

    seen: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert len(seen) > 1, "no connection was broken"


def test_a_connection_that_breaks_under_its_first_call_is_made_again(milvus_uri: str) -> None:
    with breaking_proxy(milvus_uri) as address:
        link = Link(MilvusSettings(address))
        assert link.resolve("nothing-of-this-name") is None
        link.close()
