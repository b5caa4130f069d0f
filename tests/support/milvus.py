"""The Milvus of the tests: the server that CLSP_TEST_MILVUS_URI names, else Milvus Lite in a process of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest

RUN = "t" + uuid.uuid4().hex[:8]
"""Begins the names of everything that this run of the tests keeps in Milvus."""


@contextmanager
def milvus_under_test() -> Iterator[str]:
    """Yields the address. A server may hold other things: what this run made there is removed, and nothing else."""
    pytest.importorskip("pymilvus", reason="Milvus needs the scale extra")
    given = os.environ.get("CLSP_TEST_MILVUS_URI", "")
    if given:
        yield given
        remove_all(given, RUN)
        return
    pytest.importorskip("milvus_lite", reason="Milvus Lite needs the scale extra")
    memory = Path("/dev/shm")
    folder = Path(mkdtemp(prefix="milvus-test-", dir=memory if os.access(memory, os.W_OK) else None))
    with lite_server(folder / "lite") as uri:
        yield uri
    shutil.rmtree(folder)


def remove_all(uri: str, prefix: str) -> None:
    """Drop every collection whose name begins so, with its aliases."""
    from pymilvus import MilvusClient

    client = MilvusClient(uri)
    for name in client.list_collections():
        if name.startswith(prefix):
            for alias in client.describe_collection(name)["aliases"]:
                client.drop_alias(alias)
            client.drop_collection(name)
    client.close()


@contextmanager
def lite_server(folder: Path) -> Iterator[str]:
    """Milvus Lite as a process of its own; yields its address. Kills it in the end: its folder goes too."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(folder), "--host", "127.0.0.1"]
    # Read by nobody while it runs, so that it can't block on a full pipe.
    log = folder.with_suffix(".log")
    with log.open("wb") as out, subprocess.Popen([*command, "--port", str(port)], stdout=out, stderr=out) as server:
        try:
            while True:
                assert server.poll() is None, log.read_text()
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.02)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()
