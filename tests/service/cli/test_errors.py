"""What goes wrong around the command line is said in words, with exit status 1 and never a traceback."""

from __future__ import annotations

import hashlib
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cli.local_server import local_server
from tests.support.clsp_script import LIBRARY, ROOT, Run

CLIP = LIBRARY / "man-us-low.ogg"


def test_nobody_answers(clsp: Run) -> None:
    done = clsp("search", "voices", "a calm voice", "--url", "http://127.0.0.1:9")
    assert done.status == 1
    assert "No clsp service answers at http://127.0.0.1:9" in done.err
    assert "clsp serve" in done.err


@pytest.fixture
def foreign_url() -> Iterator[str]:
    """A web server that is not ours."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_somebody_else_answers(clsp: Run, foreign_url: str) -> None:
    done = clsp("collections", "--url", foreign_url)
    assert done.status == 1
    assert "not an answer of a clsp service" in done.err


@pytest.mark.parametrize("url", ["", "not a url", "ftp://127.0.0.1", "http://[::1"])
def test_a_bad_url_is_not_a_traceback(clsp: Run, url: str) -> None:
    done = clsp("collections", "--url", url)
    assert done.status == 1
    assert "Traceback" not in done.err
    assert done.err.strip()


def test_keys_are_sent_and_scopes_explained(clsp: Run, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"reader-secret").hexdigest()
    with local_server(environment={"CLSP_API_KEYS": f"page:read:{digest}"}) as server:
        without = clsp("collections", "--url", server.url)
        assert without.status == 1
        assert "(401)" in without.err
        reading = clsp("collections", "--json", CLSP_URL=server.url, CLSP_API_KEY="reader-secret")
        assert reading.json() == {"data": []}
        (tmp_path / "m.jsonl").write_text(f'{{"file": "{CLIP}"}}\n')
        writing = clsp("ingest", "voices", "m.jsonl", CLSP_URL=server.url, CLSP_API_KEY="reader-secret")
        assert writing.status == 1
        assert "(403)" in writing.err
        assert "write" in writing.err


def test_serving_commands_load_nothing_heavy() -> None:
    code = (
        "import sys, service.cli.main; heavy = {'torch', 'transformers', 'fastapi', 'uvicorn', 'onnxruntime', 'faiss', "
        "'training', 'numpy'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["train", "evaluate", "export"])
def test_training_commands_say_which_extra_they_need(clsp: Run, tmp_path: Path, command: str) -> None:
    # A torch that fails to import as an absent one does; everything else is the real installation.
    for name in ("torch", "onnx"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('no module {name}', name='{name}')\n")
    done = clsp(command, "--help", PYTHONPATH=str(tmp_path))
    assert done.status == 1
    assert "pip install 'clsp-service[train]'" in done.err
    assert "Traceback" not in done.err


def test_help_and_version(clsp: Run) -> None:
    for command in (
        "serve",
        "ingest",
        "jobs",
        "search",
        "classify",
        "score",
        "embed",
        "doctor",
        "collections",
        "delete",
    ):
        assert clsp(command, "--help").status == 0
    assert clsp("--version").out.startswith("clsp-service ")
    listed = clsp("--help").out
    assert all(command in listed for command in ("train", "export", "evaluate"))
