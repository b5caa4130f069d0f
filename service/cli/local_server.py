"""A `clsp serve` of one's own for a while: what the demo, the benchmarks and the documentation's examples run on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clsp_client import ClspError
from service.cli.common import CliError, connect

READY_S = 120.0
"""Seconds after which a service that is not ready never will be."""
_STOP_S = 30.0


@dataclass(frozen=True)
class LocalServer:
    """A running service."""

    url: str
    pid: int
    ready_s: float
    """Seconds from the start of the process to the first success of /readyz."""


@contextmanager
def local_server(
    data_dir: Path | None = None, *, bundle: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[LocalServer]:
    """Start a service on a free port, wait until it is ready, stop it at the end.

    `data_dir`: a temporary folder unless given. `environment`: settings on top of this process's environment.
    Raises CliError with the end of the service's log when it does not become ready.
    """
    with tempfile.TemporaryDirectory(prefix="clsp-") as scratch:
        log = Path(scratch) / "serve.log"
        port = _free_port()
        command = [sys.executable, "-P", "-m", "service.cli", "serve", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--data-dir", str(data_dir or Path(scratch) / "data")]
        command += ["--bundle", str(bundle)] if bundle else []
        started = time.perf_counter()
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603  (our own command line)
                command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
            )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url, process, started, log)
            yield LocalServer(url, process.pid, time.perf_counter() - started)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], started: float, log: Path) -> None:
    with connect(url, patience_s=0) as client:
        while process.poll() is None and time.perf_counter() - started < READY_S:
            try:
                client.ready()
            except ClspError:
                time.sleep(0.02)
            else:
                return
    end = log.read_text(errors="replace")[-2000:]
    raise CliError(f"The service did not become ready; try `clsp doctor`. The end of its log:\n{end}")
