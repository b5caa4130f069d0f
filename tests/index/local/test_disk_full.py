"""A disk that is really full: a small file system, filled by writes, builds and snapshots until it refuses."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SCRIPT = """
    import sys
    from dataclasses import replace
    from pathlib import Path
    from tests.support.index_clusters import SMALL, clustered, items_of
    from index.errors import StorageFailed
    from index.local.store import LocalStore

    DIM = 64
    vectors = clustered(20_000, DIM)
    folder = Path(sys.argv[1])
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(500_000))
    store = LocalStore(folder / "data", settings=SMALL)
    store.create_collection("c", dim=DIM, identity="x")
    stored = refused = 0
    unsaved = False
    while refused < 3:
        try:
            store.upsert("c", items_of(vectors[stored : stored + 100], stored), identity="x")
            stored += 100
        except StorageFailed as error:
            refused += 1
            print("refused:", error)
        try:
            store.maintenance.settle()
        except StorageFailed:
            unsaved = True
        assert store.get_collection("c").items == stored
        assert store.search("c", vectors[stored - 1], top_k=1)[0].item_id == f"{stored - 1:07}"
        assert store.search("c", vectors[stored], top_k=1)[0].score < 0.9999
    assert stored > 1000
    # What was acknowledged is there after a restart on the full disk, with or without a snapshot.
    store.close()
    with LocalStore(folder / "data", settings=SMALL) as store:
        assert len(store.search("c", vectors[0], top_k=10_000)) == stored
    # A little space, and everything goes on.
    ballast.unlink()
    with LocalStore(folder / "data", settings=SMALL) as store:
        store.upsert("c", items_of(vectors[stored : stored + 10], stored), identity="x")
        store.maintenance.settle()
        assert len(store.search("c", vectors[0], top_k=10_000)) == stored + 10
        assert store.maintenance.facts("c").saved > 0
    print("stored", stored, "unsaved", unsaved)
"""


def test_a_full_file_system_refuses_and_forgets_nothing(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs `unshare` to mount a small file system of its own")
    mount = "mount -t tmpfs -o size=4m none"
    if subprocess.run(["unshare", "-rm", "sh", "-c", f"{mount} '{tmp_path}'"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    script = tmp_path.parent / "full_disk.py"
    script.write_text(textwrap.dedent(SCRIPT), "utf-8")
    inside = f"{mount} '{tmp_path}' && exec '{sys.executable}' '{script}' '{tmp_path}'"
    environment = {"PYTHONPATH": f"{ROOT}", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["unshare", "-rm", "sh", "-c", inside], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
    assert done.stdout.count("refused:") == 3
