"""Builds in a process of their own: whatever becomes of it, the store serves on, and nothing is left behind."""

from __future__ import annotations

import logging
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from index.errors import BuildFailed
from index.local.maintenance import IndexFacts
from index.local.store import LocalStore
from tests.support.index_clusters import SMALL, clustered, items_of
from tests.support.paths import ROOT

DIM = 32
COUNT = 2000
VECTORS = clustered(COUNT, DIM)
APART = replace(SMALL, build_apart=True)
PATIENCE_S = 60.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    """2000 vectors that are still to be built into an index."""
    with LocalStore(tmp_path, settings=APART) as store:
        store.create_collection("c", dim=DIM, identity="x")
        store.upsert("c", items_of(VECTORS), identity="x")
        yield store


def eventually(what: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < give_up
        time.sleep(0.002)


def builders(pid: int | None = None) -> list[psutil.Process]:
    """Build processes below this one, or another."""
    found = []
    for child in psutil.Process(pid).children():
        try:
            if "index.local.build_child" in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue  # It ended in between.
    return found


@contextmanager
def held_builder(store: LocalStore) -> Iterator[tuple[psutil.Process, Future[IndexFacts]]]:
    """A build that was begun and stands still until somebody ends or resumes it."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(store.maintenance.rebuild, "c")
        eventually(lambda: bool(builders()))
        (process,) = builders()
        process.suspend()
        try:
            yield process, future
        finally:
            if process.is_running():
                process.resume()


def check_serves(store: LocalStore) -> None:
    for number in (0, 1234):
        (hit,) = store.search("c", VECTORS[number], top_k=1)
        assert (hit.item_id, round(hit.score, 5)) == (f"{number:07}", 1.0)


def leftovers(folder: Path) -> list[str]:
    return [file.name for file in (folder / "index").iterdir() if file.suffix not in (".json", ".faiss")]


def test_a_build_apart_is_swapped_in_and_its_file_is_the_snapshot(store: LocalStore, tmp_path: Path) -> None:
    facts = store.maintenance.rebuild("c")
    assert facts.frozen is not None
    assert (facts.frozen.kind, facts.frozen.trained_on, facts.delta, facts.saved) == ("ivf-sq8", COUNT, 0, COUNT)
    assert facts.frozen.recall is not None
    assert not builders()
    assert sorted(file.name for file in (tmp_path / "index").iterdir()) == ["1-1.faiss", "1.json"]
    check_serves(store)
    store.close()
    with LocalStore(tmp_path, settings=APART) as again:
        assert again.maintenance.facts("c").frozen == facts.frozen
        check_serves(again)


def test_the_same_index_comes_of_both_ways(store: LocalStore, tmp_path: Path) -> None:
    apart = store.maintenance.rebuild("c").frozen
    with LocalStore(tmp_path / "here", settings=SMALL) as here:
        here.create_collection("c", dim=DIM, identity="x")
        here.upsert("c", items_of(VECTORS), identity="x")
        built = here.maintenance.rebuild("c").frozen
        assert built is not None
        assert apart is not None
        assert [(one.effort, one.recall) for one in apart.curve] == [(one.effort, one.recall) for one in built.curve]
        for query in clustered(20, DIM, seed=1):
            assert store.search("c", query, top_k=10) == here.search("c", query, top_k=10)


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_build_that_crashes_costs_nothing(store: LocalStore, tmp_path: Path, how: signal.Signals) -> None:
    """SIGKILL is what the kernel sends when memory runs out."""
    with held_builder(store) as (process, future):
        check_serves(store)
        store.delete_item("c", "0000007")
        store.upsert("c", items_of(VECTORS[:1], first=COUNT), identity="x")
        process.send_signal(how)
        with suppress(psutil.NoSuchProcess):  # SIGKILL ends a stopped process too
            process.resume()
        with pytest.raises(BuildFailed, match=how.name):
            future.result(PATIENCE_S)
    assert store.maintenance.facts("c").frozen is None
    assert leftovers(tmp_path) == []
    store.delete_item("c", f"{COUNT:07}")
    check_serves(store)
    store.maintenance.settle()
    facts = store.maintenance.facts("c")
    assert facts.frozen is not None
    assert facts.vectors == COUNT - 1
    assert not any(hit.item_id == "0000007" for hit in store.search("c", VECTORS[7], top_k=COUNT))
    check_serves(store)


def test_what_changes_during_a_build_is_there_after_it(store: LocalStore) -> None:
    with held_builder(store) as (process, future):
        store.delete_item("c", "0000007")
        store.upsert("c", items_of(VECTORS[:1], first=COUNT), identity="x")
        process.resume()
        facts = future.result(PATIENCE_S)
    assert facts.vectors == COUNT
    found = {hit.item_id for hit in store.search("c", VECTORS[0], top_k=COUNT)}
    assert found == {f"{number:07}" for number in range(COUNT + 1)} - {"0000007"}
    assert {hit.item_id for hit in store.search("c", VECTORS[0], top_k=2)} == {"0000000", f"{COUNT:07}"}


def test_a_build_that_fails_says_why(store: LocalStore, tmp_path: Path) -> None:
    """A limit on file sizes, which the process inherits, stands for a full disk."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, most))
    try:
        with pytest.raises(BuildFailed, match=r"could not write 1-\w+\.tmp"):
            store.maintenance.settle()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert leftovers(tmp_path) == []
    check_serves(store)
    store.maintenance.settle()
    assert store.maintenance.facts("c").saved == COUNT


def test_closing_ends_the_build(store: LocalStore, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(store.maintenance.rebuild, "c")
        eventually(lambda: bool(builders()))
        (process,) = builders()
        process.suspend()
        store.close()
        assert future.exception(PATIENCE_S) is not None
    assert not psutil.pid_exists(process.pid)
    assert leftovers(tmp_path) == []
    with LocalStore(tmp_path, settings=APART) as again:
        check_serves(again)


def test_deleting_the_collection_ends_the_build(store: LocalStore, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(store.maintenance.rebuild, "c")
        eventually(lambda: bool(builders()))
        (process,) = builders()
        process.suspend()
        store.delete_collection("c")
        assert future.exception(PATIENCE_S) is not None
    assert not psutil.pid_exists(process.pid)
    assert list((tmp_path / "index").iterdir()) == []


def test_a_collection_emptied_before_it_was_read_is_not_built(store: LocalStore, tmp_path: Path) -> None:
    with held_builder(store) as (process, future):
        for number in range(COUNT):
            store.delete_item("c", f"{number:07}")
        process.resume()
        assert future.result(PATIENCE_S).vectors == 0
    assert store.search("c", VECTORS[0], top_k=3) == []
    assert leftovers(tmp_path) == []


def test_in_the_background_a_crash_is_logged_and_the_store_lives(
    store: LocalStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.close()
    caplog.set_level(logging.INFO, "index")
    with LocalStore(tmp_path, settings=replace(APART, background=True)) as again:
        eventually(lambda: bool(builders()))
        (process,) = builders()
        process.suspend()
        process.send_signal(signal.SIGSEGV)
        process.resume()
        eventually(lambda: "was ended by SIGSEGV" in caplog.text)
        check_serves(again)
        assert again.maintenance.facts("c").frozen is None
        assert again.maintenance.rebuild("c").saved == COUNT
        check_serves(again)


OWNER = """
    import sys, threading
    from dataclasses import replace
    from pathlib import Path
    from tests.support.index_clusters import SMALL
    from index.local.store import LocalStore

    store = LocalStore(Path(sys.argv[1]), settings=replace(SMALL, build_apart=True))
    threading.Thread(target=store.maintenance.rebuild, args=("c",), daemon=True).start()
    sys.stdin.read()
"""


def test_a_build_does_not_outlive_its_service(store: LocalStore, tmp_path: Path) -> None:
    store.close()
    command = [sys.executable, "-c", textwrap.dedent(OWNER), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT) as owner:
        eventually(lambda: bool(builders(owner.pid)))
        (process,) = builders(owner.pid)
        process.suspend()
        owner.kill()
    process.resume()
    eventually(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    with LocalStore(tmp_path, settings=APART) as again:
        assert leftovers(tmp_path) == []
        check_serves(again)
        assert again.maintenance.rebuild("c").saved == COUNT


def test_one_build_at_a_time_and_each_waits_its_turn(store: LocalStore) -> None:
    most = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, len(builders()))

    with ThreadPoolExecutor(3) as pool:
        watching = pool.submit(watch)
        futures = [pool.submit(store.maintenance.rebuild, "c") for _ in range(2)]
        try:
            assert all(future.result(PATIENCE_S).saved == COUNT for future in futures)
        finally:
            done.set()
        watching.result(PATIENCE_S)
    assert most == 1
