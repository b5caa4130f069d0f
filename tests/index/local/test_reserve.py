"""A full disk can be freed: writes say that there is no room, and deletes have some."""

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
    from pathlib import Path
    from tests.support.index_clusters import SMALL, clustered, items_of
    from index.errors import StorageFull
    from index.local.store import LocalStore

    vectors = clustered(20_000, 64)
    folder = Path(sys.argv[1])
    with LocalStore(folder / "data", settings=SMALL) as store:
        store.create_collection("c", dim=64, identity="x")
        stored = 0
        try:
            while True:
                store.upsert("c", items_of(vectors[stored : stored + 20], stored), identity="x")
                stored += 20
        except StorageFull as error:
            print("full:", error)
        # Not even the last bytes are left.
        with (folder / "rest").open("wb", buffering=0) as rest:
            try:
                while rest.write(bytes(512)):
                    pass
            except OSError:
                pass
        for number in range(40):
            store.delete_item("c", f"{number:07}")
        assert store.get_collection("c").items == stored - 40
        (folder / "rest").unlink()
        store.delete_item("c", f"{40:07}")
        assert (folder / "data" / "reserve").stat().st_size > 0
        store.upsert("c", items_of(vectors[:1], 0), identity="x")
    print("freed")
"""


def test_deletes_work_on_a_full_disk(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs `unshare` to mount a small file system of its own")
    mount = "mount -t tmpfs -o size=16m none"
    if subprocess.run(["unshare", "-rm", "sh", "-c", f"{mount} '{tmp_path}'"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    script = tmp_path.parent / "freed_disk.py"
    script.write_text(textwrap.dedent(SCRIPT), "utf-8")
    inside = f"{mount} '{tmp_path}' && exec '{sys.executable}' '{script}' '{tmp_path}'"
    environment = {"PYTHONPATH": f"{ROOT}", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["unshare", "-rm", "sh", "-c", inside], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
    assert "full:" in done.stdout and "freed" in done.stdout
