"""A process that writes until it is killed: says on stdout what it begins and what was acknowledged. Run by tests."""

from __future__ import annotations

import json
import random
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from index.ann.plan import IndexSettings
from index.local.store import LocalStore
from index.types import NewItem
from tests.support.index_oracle import clip

COLLECTION = "crash"
DIM = 32
THREADS = 2
IDS = 12
# A few dozen vectors are built into an index, merged into it and saved, over and over, in a thread beside the writers
# or in a process of its own.
SETTINGS = IndexSettings(
    flat_bytes=DIM * 40,
    delta_bytes=DIM * 20,
    exact_ids=5,
    rerank=100,
    regrow=1.5,
    snapshot_share=0.01,
    build_apart=False,
)


def version_of(item_id: str, version: int) -> NewItem:
    """The item a version of an id stands for: one to five segments, media, and metadata that name the version."""
    thread, number = item_id.split("-")
    seed = (int(thread) * IDS + int(number)) * 1_000_000 + version * 10
    seeds = [seed + i for i in range(1 + version % 5)]
    media = f"{item_id} {version} ".encode() * 2000 if version % 2 else None
    return clip(item_id, seeds, DIM, {"version": version, "tags": [item_id, version]}, media)


def main(folder: Path, seed: int, first_version: int, *, apart: bool) -> None:
    store = LocalStore(folder, settings=replace(SETTINGS, build_apart=apart))
    store.create_collection(COLLECTION, dim=DIM, identity="x")
    out = threading.Lock()

    def say(line: dict[str, Any]) -> None:
        with out:
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()

    def work(thread: int) -> None:
        dice = random.Random(seed * THREADS + thread)
        there = {item.id for item in store.list_items(COLLECTION)[0]}
        version = first_version
        while True:
            version += 1
            ids = [f"{thread}-{number}" for number in dice.sample(range(IDS), dice.randint(1, 4))]
            alive = [item_id for item_id in ids if item_id in there]
            action = dice.choice(["upsert", "upsert", "upsert", "delete", "patch"]) if alive else "upsert"
            ids = ids if action == "upsert" else alive[:1]
            say({"thread": thread, "state": "begin", "action": action, "ids": ids, "version": version})
            if action == "upsert":
                store.upsert(COLLECTION, [version_of(item_id, version) for item_id in ids], identity="x")
                there.update(ids)
            elif action == "delete":
                store.delete_item(COLLECTION, ids[0])
                there.discard(ids[0])
            else:
                store.patch_metadata(COLLECTION, ids[0], {"patched": version})
            say({"thread": thread, "state": "acknowledged"})

    def rebuild() -> None:
        """What maintenance does not find to do by itself often enough: new indexes, and new snapshots."""
        while True:
            store.maintenance.rebuild(COLLECTION)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(THREADS)]
    threads.append(threading.Thread(target=rebuild))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), apart="apart" in sys.argv)
