"""A writer to Milvus that is killed half-way leaves all of its change or nothing, and others tidy up after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from index.milvus.index import MilvusStore
from tests.support.index_backends import Backend, group
from tests.support.index_oracle import unit
from tests.support.paths import ROOT

DIM = 16

WRITER = """
    import sys
    from pathlib import Path
    from tests.support.index_backends import Backend, group
    from index.milvus.rows import Row

    store = Backend("milvus", sys.argv[1], sys.argv[4]).open(Path(sys.argv[2]))
    store.upsert("c", group(1), identity="x")
    link, stage = store._link, sys.argv[3]

    def wait_for_the_end(*_: object) -> None:
        print("here", flush=True)
        sys.stdin.read()

    insert, put = link.insert, link.put
    if stage == "half of the rows":
        link.insert = lambda name, rows: (insert(name, rows[: len(rows) // 2]), wait_for_the_end())
    elif stage == "all rows":
        link.insert = lambda name, rows: (insert(name, rows), wait_for_the_end())
    else:
        def put_then_wait(name: str, row: Row) -> None:
            put(name, row)
            if '"committed": true' in row["body"]:
                wait_for_the_end()
        link.put = put_then_wait
    store.upsert("c", group(2, 6), identity="x")
"""


@pytest.mark.parametrize(
    "stage",
    ["half of the rows", pytest.param("all rows", marks=pytest.mark.slow), "the commit"],
)
def test_kill_9_of_a_writer_leaves_all_or_nothing(milvus: Backend, tmp_path: Path, stage: str) -> None:
    with closing(milvus.open(tmp_path)) as store:
        assert isinstance(store, MilvusStore)
        store.create_collection("c", dim=DIM, identity="x")
        script = "\n".join(line[4:] for line in WRITER.splitlines())
        command = [sys.executable, "-c", script, milvus.uri, str(tmp_path), stage, milvus.run]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stdin": subprocess.PIPE, "text": True}
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "here\n"
            writer.kill()
        assert writer.returncode == -signal.SIGKILL
        number, items = (2, 6) if stage == "the commit" else (1, 4)

        def check() -> None:
            hits = store.search("c", unit(2, DIM), top_k=20)
            assert [hit.metadata["number"] for hit in hits] == [number] * items
            assert len(store.list_items("c")[0]) == items
            info = store.get_collection("c")
            assert (info.items, info.segments) == (items, items * (1 + number % 3))

        check()
        home = store._homes.find("c").name
        while store.tidying.once(wait=False):  # any replica tidies up after it
            pass
        assert store._log.changes(home) == []
        check()
        assert store._link.count(home, "ordinal >= 0") == items * (1 + number % 3)
        store.upsert("c", group(3), identity="x")
        assert {item.metadata["number"] for item in store.list_items("c")[0]} <= {3, number}
