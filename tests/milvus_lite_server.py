"""Milvus Lite as a server in a process of its own, for tests that need more than one client."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
