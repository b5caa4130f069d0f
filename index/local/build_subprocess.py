"""Build an index in a process of its own, so that a build that crashes or runs out of memory costs nobody a search.

FAISS is C++: what goes wrong in it ends the process it is in. The other process also takes its work off our
interpreter's lock, and gives all its memory back.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from index.ann.ivf import FrozenFacts
from index.errors import BuildFailed
from index.local.build_child import NOTHING_TO_BUILD, Order
from index.local.builder import BuildStopped, Check

_POLL_S = 0.2
_TOLD_CHARS = 2000
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Built:
    """A finished index in a file, and what it must be told when it is read."""

    file: Path
    facts: FrozenFacts


def build_apart(order: Order, check: Check) -> Built:
    """Have `order` carried out by another process; it leaves nothing behind when it fails.

    Args:
        check: called while it builds; what it raises ends the build.

    Raises:
        BuildStopped: from `check`, or there are no vectors any more.
        BuildFailed: the process crashed, was killed, or failed; says how.
    """
    with tempfile.TemporaryFile() as complaints:
        process = _start(order, complaints)
        try:
            answer = _answer(process, check)
        except BaseException:
            process.kill()
            order.file.unlink(missing_ok=True)
            raise
        finally:
            _reap(process)
        if process.returncode == 0:
            return Built(order.file, FrozenFacts.from_json(json.loads(answer)))
        order.file.unlink(missing_ok=True)
        if process.returncode == NOTHING_TO_BUILD:
            raise BuildStopped
        complaints.seek(0)
        raise BuildFailed(_how_it_ended(process.returncode), complaints.read().decode(errors="replace")[-_TOLD_CHARS:])


def _start(order: Order, complaints: IO[bytes]) -> subprocess.Popen[bytes]:
    threads = str(order.threads)
    environment = {
        **os.environ,
        # The package as it is imported here, wherever that is.
        "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "OMP_NUM_THREADS": threads,
        # Threads that wait must not spin: the searches need the cores.
        "OMP_WAIT_POLICY": "passive",
    }
    command = [sys.executable, "-P", "-m", "index.local.build_child"]
    try:
        # A session of its own: Ctrl-C in a terminal is for the service, which then ends the build.
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise BuildFailed("could not be started", str(error)) from error
    assert process.stdin is not None
    # It may be dead already; how it ended will be told.
    with suppress(BrokenPipeError):
        process.stdin.write(order.to_json().encode() + b"\n")
        process.stdin.flush()
    return process


def _answer(process: subprocess.Popen[bytes], check: Check) -> bytes:
    """All it prints, which is over when it ends."""
    assert process.stdout is not None
    while not select.select([process.stdout], [], [], _POLL_S)[0]:
        check()
    return process.stdout.read()


def _reap(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
    process.wait()


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"failed with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
