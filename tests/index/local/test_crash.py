"""What DESIGN promises of crashes, tested as written: nothing acknowledged is lost, no item or batch is half there."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.local.store import LocalStore
from index.types import Item
from tests.support.index_crash_writer import COLLECTION, DIM, SETTINGS, version_of
from tests.support.paths import ROOT, script_environment

KILLS, KILLS_APART = 15, 3
KILLS_SLOW, KILLS_APART_SLOW = 200, 40
# Item id to (version, number of the patch on it if any).
State = dict[str, tuple[int, int | None]]


def run_until_killed(
    folder: Path, seed: int, first_version: int, dice: random.Random, apart: bool
) -> list[dict[str, Any]]:
    """Start the writer, kill it a random while after some actions were acknowledged, and return all that it said."""
    command = [sys.executable, "-m", "tests.support.index_crash_writer", str(folder), str(seed), str(first_version)]
    command += ["apart"] if apart else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=script_environment()) as process:
        assert process.stdout is not None
        said = []
        # A process takes its time to start: kill later, so that builds are met in all their parts.
        actions = dice.randint(1, 400 if apart else 60)
        while actions and (line := process.stdout.readline()):
            said.append(line)
            actions -= "acknowledged" in line
        time.sleep(dice.uniform(0, 0.02))
        process.kill()
        said += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL, said[-3:]
    # The last line may be cut short by the kill.
    return [json.loads(line) for line in said if line.endswith("\n")]


def after(state: State, line: dict[str, Any]) -> State:
    """The state once an action is done."""
    state = dict(state)
    for item_id in line["ids"]:
        if line["action"] == "delete":
            state.pop(item_id, None)
        elif line["action"] == "patch":
            state[item_id] = (state[item_id][0], line["version"])
        else:
            state[item_id] = (line["version"], None)
    return state


def states_allowed(state: State, said: list[dict[str, Any]]) -> list[State]:
    """Each thread's acknowledged actions are done; the one it was in is done as a whole or not at all."""
    open_actions: dict[int, dict[str, Any]] = {}
    for line in said:
        if line["state"] == "begin":
            open_actions[line["thread"]] = line
        else:
            state = after(state, open_actions.pop(line["thread"]))
    allowed = [state]
    for line in open_actions.values():
        allowed += [after(one, line) for one in allowed]
    return allowed


def check_whole(store: LocalStore, items: list[Item]) -> None:
    """Every item is one version's in all its parts, and a search for each of its vectors finds it."""
    for item in items:
        expected = version_of(item.id, item.metadata["version"])
        patched = {"patched": item.metadata["patched"]} if "patched" in item.metadata else {}
        assert item.metadata == {**expected.metadata, **patched}
        assert item.content_sha256 == expected.content_sha256
        vectors = store.item_vectors(COLLECTION, item.id)
        assert np.allclose(vectors, [one.vector for one in expected.segments], atol=1e-6)
        for segment in expected.segments:
            (hit,) = store.search(COLLECTION, segment.vector, top_k=1)
            assert (hit.item_id, hit.start_s, round(hit.score, 4)) == (item.id, segment.start_s, 1.0)
        if expected.media is not None:
            assert store.media_path(COLLECTION, item.id)[0].read_bytes() == expected.media.data


SLOW = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(
    ("kills", "seed", "apart"),
    [
        (KILLS, 20, False),
        (KILLS_APART, 22, True),
        pytest.param(KILLS_SLOW, 21, False, marks=SLOW),
        pytest.param(KILLS_APART_SLOW, 23, True, marks=SLOW),
    ],
)
def test_kill_9_loses_nothing_acknowledged_and_leaves_nothing_half(
    tmp_path: Path, kills: int, seed: int, apart: bool
) -> None:
    """Killed at random points of upserts, deletes, patches, builds, merges and snapshots, all at once."""
    dice = random.Random(seed)
    state: State = {}
    snapshots_used = 0
    for kill in range(kills):
        said = run_until_killed(tmp_path, seed * 1000 + kill, kill * 10_000, dice, apart)
        # Without maintenance the store shows what was found in the folder, a snapshot or none.
        with LocalStore(tmp_path, settings=replace(SETTINGS, background=False)) as store:
            items, cursor = store.list_items(COLLECTION, limit=1000)
            assert cursor is None
            seen = {item.id: (item.metadata["version"], item.metadata.get("patched")) for item in items}
            assert seen in states_allowed(state, said), f"after kill {kill}"
            check_whole(store, items)
            info = store.get_collection(COLLECTION)
            assert (info.items, info.segments) == (len(items), sum(item.segments for item in items))
            hits = store.search(COLLECTION, version_of("0-0", 1).segments[0].vector, top_k=1000)
            assert {hit.item_id for hit in hits} == set(seen)
            media = {path.name for path in (tmp_path / "media").rglob("*") if path.is_file()}
            kept = {store.media_path(COLLECTION, item.id)[0].name for item in items if item.has_media}
            assert media == kept
            if store.list_collections() and store.maintenance.facts(COLLECTION).frozen is not None:
                snapshots_used += 1
            left = {path.suffix for path in (tmp_path / "index").iterdir()}
            # The killed one's build may have had a moment more to live; the next start sweeps what it left.
            assert left <= {".json", ".faiss", *([".tmp"] if apart else [])}
        state = seen
    if kills >= KILLS_SLOW:  # of fewer, none may have come after a build on a slow machine
        assert snapshots_used > 0


def test_one_process_owns_a_folder_and_death_frees_it(tmp_path: Path) -> None:
    opener = (
        "import sys; from pathlib import Path; from index.local.store import LocalStore; LocalStore(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", f"{opener}; print('open', flush=True); sys.stdin.read()", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        second = subprocess.run([sys.executable, "-c", opener, str(tmp_path)], capture_output=True, text=True)
        assert second.returncode == 1
        assert "index.errors.StoreLocked" in second.stderr
        assert f"process {owner.pid}" in second.stderr
        owner.kill()
    with LocalStore(tmp_path) as store:
        assert store.list_collections() == []


FULL_DISK = """
    import resource, sys
    from pathlib import Path
    from tests.support.index_oracle import clip
    from index.errors import StorageFailed
    from index.local.store import LocalStore

    store = LocalStore(Path(sys.argv[1]))
    store.create_collection("c", dim=256, identity="x")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))
    stored = 0
    try:
        while stored < 10_000:
            batch = [clip(f"{stored + i:05}", [stored + i] * 20, 256, {"n": i}, bytes(1000)) for i in range(10)]
            store.upsert("c", batch, identity="x")
            stored += len(batch)
    except StorageFailed as error:
        print(stored, error)
    query = batch[0].segments[0].vector
    assert store.get_collection("c").items == stored
    assert len(store.search("c", query, top_k=5000)) == stored
    assert all(hit.item_id != batch[0].id for hit in store.search("c", query, top_k=5000))
    try:
        store.upsert("c", [clip("media", [1], 256, {}, bytes(2_000_000))], identity="x")
    except StorageFailed as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert store.upsert("c", batch, identity="x") == [True] * 10
    assert store.search("c", query, top_k=1)[0].item_id == batch[0].id
    store.close()
"""


def test_a_full_disk_refuses_the_call_and_nothing_else(tmp_path: Path) -> None:
    script = textwrap.dedent(FULL_DISK)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    stored = int(first.split()[0])
    assert stored > 0
    assert "storage failed" in first
    assert "storage failed" in second
    with LocalStore(tmp_path) as store:
        assert store.get_collection("c").items == stored + 10
        # Bytes of the media refused twice are not left lying about.
        assert len([path for path in (tmp_path / "media").rglob("*") if path.is_file()]) == 1


def test_a_kill_while_the_folder_is_made_leaves_an_openable_one(tmp_path: Path) -> None:
    for number, delay_s in enumerate((0, 0.002, 0.005, 0.01, 0.02)):
        folder = tmp_path / str(number)
        command = [sys.executable, "-m", "tests.support.index_crash_writer", str(folder), "1", "1"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=script_environment()) as process:
            while not (folder / "catalog.sqlite").exists():
                assert process.poll() is None
                time.sleep(0.0005)
            time.sleep(delay_s)
            process.kill()
        with LocalStore(folder) as store:
            assert {info.name for info in store.list_collections()} <= {COLLECTION}
            store.create_collection(COLLECTION, dim=DIM, identity="x")
            check_whole(store, store.list_items(COLLECTION)[0])
