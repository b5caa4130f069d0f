"""The real `clsp` script against a real server: what the tests of the command line share."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cli.local_server import local_server
from tests.support.clsp_script import LIBRARY, Done, Run, run_clsp


@pytest.fixture
def clsp(tmp_path: Path) -> Run:
    """`clsp` without a server."""

    def run(*arguments: object, **environment: str) -> Done:
        return run_clsp(*arguments, cwd=tmp_path, environment=environment)

    return run


@pytest.fixture(scope="session")
def cli_server_url() -> Iterator[str]:
    """One open server for all tests; each test uses a collection of its own."""
    with local_server() as server:
        yield server.url


@pytest.fixture
def online(cli_server_url: str, tmp_path: Path) -> Run:
    """`clsp` with CLSP_URL set to the server."""

    def run(*arguments: object, **environment: str) -> Done:
        return run_clsp(*arguments, cwd=tmp_path, environment={"CLSP_URL": cli_server_url, **environment})

    return run


@pytest.fixture
def small_library(tmp_path: Path) -> Path:
    """A manifest of four clips beside their audio, free to be changed."""
    folder = tmp_path / "library"
    folder.mkdir()
    wanted = ("woman-us-fast", "man-us-low", "man-us-whisper", "woman-us-creaky")
    rows = [json.loads(line) for line in (LIBRARY / "manifest.jsonl").read_text("utf-8").splitlines()]
    kept = [row for row in rows if row["id"] in wanted]
    for row in kept:
        shutil.copy(LIBRARY / row["file"], folder)
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept), "utf-8")
    return folder / "manifest.jsonl"
