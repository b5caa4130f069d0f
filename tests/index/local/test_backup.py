"""Backups taken while a service writes: whole, of one moment, checked before they are restored."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from index.cli import index_app
from index.errors import StorageFailed
from index.local.backup import backup, restore
from index.local.store import LocalStore
from index.types import NewItem
from tests.support.index_clusters import SMALL, clustered, items_of
from tests.support.index_oracle import clip
from tests.support.paths import ROOT

DIM = 16
VECTORS = clustered(1500, DIM)
GROUP = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed data folder: a built index in one collection, audio in another. Read only."""
    folder = tmp_path_factory.mktemp("whole") / "data"
    with LocalStore(folder, settings=SMALL) as store:
        store.create_collection("c", dim=DIM, identity="x")
        store.upsert("c", items_of(VECTORS), identity="x")
        store.create_collection("audio", dim=DIM, identity="x")
        store.upsert("audio", [clip("a", [1], media=b"one" * 1000), clip("b", [2], media=b"two")], identity="x")
        store.maintenance.settle()
    (folder / "jobs").mkdir()
    _left_to_do(folder, ["c"])
    return folder


def _left_to_do(folder: Path, done: list[str]) -> set[str]:
    """What another room's database has left once `done` is struck off; it is made with a, b and c in it."""
    with closing(sqlite3.connect(folder / "jobs" / "jobs.sqlite", isolation_level=None)) as jobs:
        jobs.execute("PRAGMA journal_mode = WAL")
        if not jobs.execute("SELECT 1 FROM sqlite_master").fetchall():
            jobs.execute("CREATE TABLE entries (id TEXT)")
            jobs.executemany("INSERT INTO entries VALUES (?)", [("a",), ("b",), ("c",)])
        jobs.executemany("DELETE FROM entries WHERE id = ?", [(one,) for one in done])
        return {one for (one,) in jobs.execute("SELECT id FROM entries")}


def check_same(folder: Path) -> None:
    with LocalStore(folder, settings=SMALL) as store:
        assert {info.name: info.items for info in store.list_collections()} == {"c": 1500, "audio": 2}
        assert store.maintenance.facts("c").frozen is not None
        assert store.search("c", VECTORS[77], top_k=1)[0].item_id == "0000077"
        assert store.media_path("audio", "a")[0].read_bytes() == b"one" * 1000
    assert _left_to_do(folder, []) == {"a", "b"}


def test_a_backup_is_itself_a_data_folder_and_restores_to_one(data: Path, tmp_path: Path) -> None:
    report = backup(data, tmp_path / "copy")
    assert (report.collections, report.items, report.media, report.media_bytes) == (2, 1502, 2, 3003)
    assert restore(tmp_path / "copy", tmp_path / "new") == report
    check_same(tmp_path / "new")
    # The restored folder lives its own life.
    with LocalStore(tmp_path / "new", settings=SMALL) as store:
        store.delete_item("audio", "a")
    check_same(data)
    assert restore(tmp_path / "copy", tmp_path / "again") == report
    check_same(tmp_path / "again")


def test_a_backup_while_everything_changes_is_of_one_moment(tmp_path: Path) -> None:
    done = threading.Event()
    taken = []

    def generation(number: int) -> list[NewItem]:
        return [clip(f"i{i}", [number], DIM, {"generation": number}, f"{i} {number}".encode()) for i in range(GROUP)]

    with LocalStore(tmp_path / "data") as store:
        store.create_collection("c", dim=DIM, identity="x")
        store.upsert("c", generation(0), identity="x")

        def write() -> None:
            number = 0
            while not done.is_set():
                number += 1
                store.upsert("c", generation(number), identity="x")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(6):
                backup(tmp_path / "data", tmp_path / f"copy{number}")
                taken.append(tmp_path / f"copy{number}")
        finally:
            done.set()
            writer.join()
    seen = []
    for copy in taken:
        restore(copy, copy.with_name(f"restored-{copy.name}"))
        with LocalStore(copy.with_name(f"restored-{copy.name}")) as store:
            items, _ = store.list_items("c")
            (number,) = {item.metadata["generation"] for item in items}
            assert len(items) == GROUP
            for i, item in enumerate(items):
                assert store.media_path("c", item.id)[0].read_bytes() == f"{i} {number}".encode()
            assert len(list((store.media_path("c", "i0")[0].parents[1]).glob("??/*"))) == GROUP
            seen.append(number)
    assert seen == sorted(seen)
    assert len(set(seen)) > 1


def test_what_a_job_struck_off_is_in_the_catalog_of_the_same_backup(tmp_path: Path) -> None:
    """Jobs strike a clip off once it is stored; a backup must never hold neither."""
    begun, done = threading.Event(), threading.Event()
    (tmp_path / "data" / "jobs").mkdir(parents=True)
    _left_to_do(tmp_path / "data", [])
    wanted = {f"n{number}" for number in range(900)}
    with (
        LocalStore(tmp_path / "data") as store,
        closing(sqlite3.connect(tmp_path / "data" / "jobs" / "jobs.sqlite", check_same_thread=False)) as jobs,
    ):
        store.create_collection("c", dim=DIM, identity="x")
        jobs.executemany("INSERT INTO entries VALUES (?)", [(one,) for one in wanted])
        jobs.commit()

        def work() -> None:
            for item_id in sorted(wanted):
                if done.is_set():
                    return
                store.upsert("c", [clip(item_id, [1], DIM)], identity="x")
                jobs.execute("DELETE FROM entries WHERE id = ?", (item_id,))
                jobs.commit()
                begun.set()

        worker = threading.Thread(target=work)
        worker.start()
        try:
            assert begun.wait(60)
            for number in range(4):
                backup(tmp_path / "data", tmp_path / f"copy{number}")
        finally:
            done.set()
            worker.join()
    stored = 0
    for number in range(4):
        restore(tmp_path / f"copy{number}", tmp_path / f"new{number}")
        with LocalStore(tmp_path / f"new{number}") as store:
            there = {item.id for item in store.list_items("c", limit=1000)[0]}
        assert there | _left_to_do(tmp_path / f"new{number}", []) >= wanted
        stored += len(there)
    assert stored > 0


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_empty_folder_that_is_there_is_filled_and_stays_the_same_one(data: Path, tmp_path: Path) -> None:
    for name in ("copy", "new"):
        (tmp_path / name).mkdir()
        # As the root of a new disk has it.
        (tmp_path / name / "lost+found").mkdir()
    before = {name: (tmp_path / name).stat().st_ino for name in ("copy", "new")}
    backup(data, tmp_path / "copy")
    restore(tmp_path / "copy", tmp_path / "new")
    assert {name: (tmp_path / name).stat().st_ino for name in before} == before
    assert _names(tmp_path / "copy") == {"backup.json", "catalog.sqlite", "index", "jobs", "lost+found", "media"}
    assert _names(tmp_path / "new") == {"catalog.sqlite", "index", "jobs", "lost+found", "media"}
    assert _names(tmp_path) == {"copy", "new"}
    check_same(tmp_path / "new")


def test_what_is_restored_into_an_empty_folder_in_vain_leaves_it_empty(data: Path, tmp_path: Path) -> None:
    backup(data, tmp_path / "copy")
    (tmp_path / "new").mkdir()
    _flip(next((tmp_path / "copy").glob("media/??/*")))
    with pytest.raises(StorageFailed, match="damaged"):
        restore(tmp_path / "copy", tmp_path / "new")
    assert not _names(tmp_path / "new")


MOUNTED = """
    import os, sys
    from pathlib import Path
    from index.local.backup import backup, restore
    from tests.index.local.test_backup import check_same

    data, copy, new = map(Path, sys.argv[1:])
    assert os.path.ismount(copy) and os.path.ismount(new)
    report = backup(data, copy)
    assert restore(copy, new) == report
    check_same(new)
    print(sorted(path.name for path in new.parent.iterdir()))
"""


def test_file_systems_of_their_own_are_backed_up_to_and_restored_to(data: Path, tmp_path: Path) -> None:
    """As the volume of a container is, whose name cannot be given to another folder."""
    if shutil.which("unshare") is None:
        pytest.skip("needs `unshare` to mount file systems of its own")
    folders = [tmp_path / "mounts" / name for name in ("copy", "new")]
    for folder in folders:
        folder.mkdir(parents=True)
    mounts = " && ".join(f"mount -t tmpfs none '{folder}'" for folder in folders)
    if subprocess.run(["unshare", "-rm", "sh", "-c", mounts], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    words = " ".join(f"'{word}'" for word in (sys.executable, tmp_path / "script.py", data, *folders))
    (tmp_path / "script.py").write_text(textwrap.dedent(MOUNTED), "utf-8")
    environment = {"PYTHONPATH": f"{ROOT}", "PATH": "/usr/bin:/bin"}
    inside = ["unshare", "-rm", "sh", "-c", f"{mounts} && exec {words}"]
    done = subprocess.run(inside, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "['copy', 'new']\n"


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from index.local.backup import restore

    left = int(sys.argv[3])

    def watch(event, arguments):
        global left
        if event == "os.rename":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    restore(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("moved", range(4))
def test_a_restore_that_was_killed_is_not_taken_for_a_library_and_can_be_repeated(
    data: Path, tmp_path: Path, moved: int
) -> None:
    backup(data, tmp_path / "copy")
    new = tmp_path / "new"
    new.mkdir()
    words = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "copy"), str(new), str(moved)]
    done = subprocess.run(words, capture_output=True, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(_names(new)) == moved + 1
    for _ in range(2):
        with pytest.raises(StorageFailed, match="restore it again, or empty the folder"):
            LocalStore(new)
    # What somebody else has put there since is not for a restore to remove.
    (new / "notes.txt").write_text("mine")
    with pytest.raises(StorageFailed, match="already exists"):
        restore(tmp_path / "copy", new)
    assert len(_names(new)) == moved + 2
    (new / "notes.txt").unlink()
    restore(tmp_path / "copy", new)
    assert _names(new) == {"catalog.sqlite", "index", "jobs", "media"}
    check_same(new)


def test_backups_in_the_data_folder_itself_are_not_part_of_the_next(data: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "data"))
    reports = [backup(copy, copy / name) for name in ("first", "second")]
    for folder in (copy / "backups", copy / "backups" / "deeper"):
        folder.mkdir()
    reports.append(backup(copy, copy / "backups" / "third"))
    assert len({report.other_bytes for report in reports}) == 1
    for name in ("first", "second", "backups/third"):
        assert _names(copy / name) == {"backup.json", "catalog.sqlite", "index", "jobs", "media"}
    restore(copy / "second", tmp_path / "new")
    check_same(tmp_path / "new")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    # A new file: the old one may have a second name in the data folder.
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("pattern", ["catalog.sqlite", "jobs/jobs.sqlite", "index/*.faiss", "media/??/*"])
@pytest.mark.parametrize("damage", [_flip, Path.unlink])
def test_a_damaged_backup_is_refused_and_leaves_nothing(
    data: Path, tmp_path: Path, pattern: str, damage: Callable[[Path], None]
) -> None:
    backup(data, tmp_path / "copy")
    damage(next((tmp_path / "copy").glob(pattern)))
    with pytest.raises(StorageFailed):
        restore(tmp_path / "copy", tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    check_same(data)


def test_what_is_no_backup_or_in_the_way_is_refused(data: Path, tmp_path: Path) -> None:
    backup(data, tmp_path / "copy")
    for call in (
        lambda: backup(data, tmp_path / "copy"),
        lambda: backup(tmp_path / "nothing", tmp_path / "other"),
        lambda: restore(tmp_path / "copy", data),
        lambda: restore(data, tmp_path / "other"),
    ):
        with pytest.raises(StorageFailed):
            call()
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    check_same(data)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("null", "not a complete backup: backup.json does not say of which format"),
        ("[1]", "not a complete backup: backup.json does not say of which format"),
        ('{"format": 2}', "of format 2; this version knows 1"),
        ('{"format": 1, "report": null, "files": {}}', "not a complete backup: backup.json does not say what is in it"),
        ('{"format": 1, "report": {"colour": 1}}', "not a complete backup: backup.json does not say what is in it"),
        ('{"format": 1', "not a complete backup: "),
    ],
)
def test_a_backup_that_says_something_else_of_itself_is_refused(
    data: Path, tmp_path: Path, text: str, said: str
) -> None:
    backup(data, tmp_path / "copy")
    (tmp_path / "copy" / "backup.json").write_text(text)
    with pytest.raises(StorageFailed, match=said):
        restore(tmp_path / "copy", tmp_path / "new")


def test_a_backup_writes_nowhere_but_into_its_folder(data: Path, tmp_path: Path) -> None:
    backup(data, tmp_path / "copy")
    mark = tmp_path / "copy" / "backup.json"
    told = json.loads(mark.read_text())
    for name in ("../outside", str(tmp_path / "outside"), "index/../../../outside"):
        mark.write_text(json.dumps(told | {"files": {**told["files"], name: []}}))
        (tmp_path / "outside").write_text("")
        with pytest.raises(StorageFailed, match="names other files"):
            restore(tmp_path / "copy", tmp_path / "new")


def test_the_folder_one_is_in_is_named_as_any_other(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    backup(data, Path())
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    restore(tmp_path / "here", Path())
    check_same(tmp_path / "there")
    with pytest.raises(StorageFailed, match=r"^\. already exists"):
        backup(data, Path())


def test_commands(data: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "data"))

    def run(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(index_app, list(words))
        assert result.exit_code == code, result.output
        return result.output

    there = ("--data-dir", str(copy))
    shown = run("plan", *there)
    assert "1500 x 16" in shown
    assert "ivf-sq8, effort" in shown
    assert "ivf-pq" in run("plan", "--vectors", "10000000", "--dim", "512", "--memory-mib", "2048")
    with LocalStore(copy, settings=SMALL) as store:
        assert f"process {os.getpid()}" in run("tune", *there, code=1)
        run("backup", str(tmp_path / "copy"), *there)
        store.delete_item("audio", "a")
    assert "1502 items" in run("restore", str(tmp_path / "copy"), "--data-dir", str(tmp_path / "new"))
    check_same(tmp_path / "new")
    assert "no catalog.sqlite" in run("rebuild", "--data-dir", str(tmp_path / "none"), code=1)
    # With the settings of everyday such a small collection is scanned whole.
    assert "scanned whole" in run("rebuild", "c", *there)
    assert "nobody" in run("tune", "nobody", *there, code=1)
