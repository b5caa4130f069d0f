"""Searches and changes at once: a search sees each upsert as a whole, and the locks do what they say."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from index.ann.plan import IndexSettings
from index.errors import StoreClosed
from index.filters import parse_filter
from index.local.store import LocalStore
from index.storage.locks import ReadWriteLock
from index.types import NewItem
from tests.support.index_oracle import clip, unit

DIM = 16
GROUP = 5
GENERATIONS = 60


def generation(name: str, number: int) -> list[NewItem]:
    """Five items, all of one vector and one number; of one segment or three, so that the index moves vectors about."""
    seeds = [number] * (1 + 2 * (number % 2))
    return [clip(f"i{i}", seeds, DIM, {"generation": number, "of": name}) for i in range(GROUP)]


# Ten vectors are an index's worth, a few more are merged, and a third deleted means building anew.
BUSY = IndexSettings(
    flat_bytes=DIM * 40, delta_bytes=DIM * 20, exact_ids=3, rerank=100, snapshot_share=0.01, build_apart=False
)


@pytest.mark.parametrize("settings", [IndexSettings(), BUSY])
def test_a_search_never_sees_part_of_an_upsert(
    tmp_path: Path, settings: IndexSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "index")
    names = ["c", "d"]
    query = unit(10_000, DIM)
    done = threading.Event()

    def write(store: LocalStore, name: str) -> None:
        for number in range(1, GENERATIONS):
            store.upsert(name, generation(name, number), identity="x")

    def search(store: LocalStore, name: str) -> set[int]:
        seen: set[int] = set()
        where = parse_filter({"generation": {"gte": 0}})
        while not done.is_set() or not seen:
            for chosen in (None, where):
                hits = store.search(name, query, top_k=50, where=chosen)
                numbers = {hit.metadata["generation"] for hit in hits}
                assert len(numbers) == 1, hits
                assert len(hits) == GROUP
                number = numbers.pop()
                expected = float(unit(number, DIM) @ query)
                assert all(abs(hit.score - expected) < 1e-5 and hit.metadata["of"] == name for hit in hits)
                seen.add(number)
            listed, _ = store.list_items(name)
            assert len({item.metadata["generation"] for item in listed}) == 1
        return seen

    with LocalStore(tmp_path, settings=settings) as store, ThreadPoolExecutor(6) as pool:
        for name in names:
            store.create_collection(name, dim=DIM, identity="x")
            store.upsert(name, generation(name, 0), identity="x")
        searches = [pool.submit(search, store, name) for name in names for _ in range(2)]
        writes = [pool.submit(write, store, name) for name in names]
        try:
            for future in writes:
                future.result()
        finally:
            done.set()
        # Searches ran between the changes, not only before or after them.
        assert len(set().union(*(future.result() for future in searches))) > 5
        assert {store.get_item("c", f"i{i}").metadata["generation"] for i in range(GROUP)} == {GENERATIONS - 1}
    assert "could not be tended" not in caplog.text
    assert ("built ivf-sq8" in caplog.text and "saved the index" in caplog.text) == (settings is BUSY)


def test_writers_of_one_collection_take_turns(tmp_path: Path) -> None:
    with LocalStore(tmp_path) as store, ThreadPoolExecutor(4) as pool:
        store.create_collection("c", dim=DIM, identity="x")
        created = list(
            pool.map(lambda n: store.upsert("c", [clip(f"{n % 20}", [n], DIM, {"n": n})], identity="x")[0], range(80))
        )
        assert sum(created) == 20
        bumped = list(pool.map(lambda n: store.patch_metadata("c", "0", {f"f{n}": n}), range(20)))
        assert len(bumped) == 20
        assert {f"f{n}" for n in range(20)} <= set(store.get_item("c", "0").metadata)
        assert len(store.search("c", unit(1, DIM), top_k=100)) == 20


def test_close_waits_for_calls_in_progress(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.create_collection("c", dim=DIM, identity="x")
    store.upsert("c", generation("c", 0), identity="x")
    served = [threading.Event() for _ in range(4)]

    def use(call: Callable[[], object], once: threading.Event) -> None:
        with pytest.raises(StoreClosed):
            while True:
                call()
                once.set()

    with ThreadPoolExecutor(4) as pool:
        calls = [
            lambda: store.search("c", unit(1, DIM), top_k=3),
            lambda: store.list_items("c"),
            lambda: store.upsert("c", generation("c", 1), identity="x"),
            lambda: store.patch_metadata("c", "i0", {"x": 1}),
        ]
        futures = [pool.submit(use, call, once) for call, once in zip(calls, served, strict=True)]
        assert all(once.wait(timeout=30) for once in served)
        store.close()
        # The log is folded into the file only by the last connection: so all were closed.
        assert not (tmp_path / "catalog.sqlite-wal").exists()
        for future in futures:
            future.result(timeout=30)
    with LocalStore(tmp_path) as store:
        assert len(store.search("c", unit(1, DIM), top_k=30)) == GROUP


def test_readers_share_and_a_writer_is_alone_and_not_starved() -> None:
    lock = ReadWriteLock()
    inside = threading.Barrier(2, timeout=30)
    order: list[str] = []

    def read_with_another() -> None:
        with lock.reading():
            inside.wait()

    with ThreadPoolExecutor(4) as pool:
        # Only if both are inside at once does the barrier open.
        for future in [pool.submit(read_with_another), pool.submit(read_with_another)]:
            future.result(timeout=30)

        def write() -> None:
            with lock.writing():
                order.append("write")

        def read() -> None:
            with lock.reading():
                order.append("read")

        with lock.reading():
            writer = pool.submit(write)
            while not lock._writers_waiting:
                time.sleep(0.001)
            reader = pool.submit(read)
            time.sleep(0.05)
            assert order == []
        writer.result(timeout=30)
        reader.result(timeout=30)
    assert order == ["write", "read"]


def test_a_failed_commit_lets_the_lock_go(tmp_path: Path) -> None:
    with LocalStore(tmp_path) as store:
        store.create_collection("c", dim=DIM, identity="x")
        for _ in range(2):
            with pytest.raises(ZeroDivisionError), store._mirror.committing(store._database._writer):
                raise ZeroDivisionError
        assert store.search("c", unit(1, DIM), top_k=1) == []


def test_closing_gives_up_a_build_and_loses_nothing(tmp_path: Path) -> None:
    settings = IndexSettings(flat_bytes=DIM * 4, delta_bytes=DIM * 4)
    items = [clip(f"{number:05}", [number], DIM) for number in range(3000)]
    before = set(threading.enumerate())  # other stores of this process have such a thread, too
    with LocalStore(tmp_path, settings=settings) as store:
        store.create_collection("c", dim=DIM, identity="x")
        for start in range(0, len(items), 500):
            store.upsert("c", items[start : start + 500], identity="x")
        assert "index-maintenance" in {thread.name for thread in set(threading.enumerate()) - before}
    assert "index-maintenance" not in {thread.name for thread in set(threading.enumerate()) - before}
    with LocalStore(tmp_path, settings=settings) as store:
        deadline = time.monotonic() + 60
        while store.maintenance.facts("c").saved < len(items) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert store.maintenance.facts("c").saved == len(items)
        assert len(store.search("c", unit(3, DIM), top_k=5000)) == len(items)
