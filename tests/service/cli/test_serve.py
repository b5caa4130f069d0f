"""`clsp serve` starts, stops and refuses cleanly; `clsp doctor` finds what would stop it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from index.storage.locks import FolderLock
from service.cli.local_server import local_server
from tests.support.clsp_script import CLSP, ROOT, Run

BUNDLE = ROOT / "models" / "clsp-small"


def _findings(clsp: Run, *arguments: object, **environment: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = clsp("doctor", "--json", *arguments, **environment)
    return done.status, {finding["check"]: finding for finding in json.loads(done.out)}


def test_doctor_is_content_with_a_sound_installation(clsp: Run) -> None:
    status, found = _findings(clsp)
    assert status == 0
    assert {finding["status"] for finding in found.values()} <= {"ok", "note"}
    assert "hashes hold" in found["bundle"]["detail"]
    assert "CPUExecutionProvider" in found["execution providers"]["detail"]
    assert "CPUExecutionProvider" in found["encoders"]["detail"]
    assert clsp("doctor").status == 0


def test_doctor_sees_a_changed_bundle(clsp: Run, tmp_path: Path) -> None:
    copy = shutil.copytree(BUNDLE, tmp_path / "bundle")
    with (copy / "tokenizer.json").open("ab") as file:
        file.write(b" ")
    status, found = _findings(clsp, "--bundle", copy)
    assert status == 1
    assert found["bundle"]["status"] == "broken"
    assert "tokenizer.json" in found["bundle"]["detail"]


def test_doctor_names_a_check_alike_whether_it_holds_or_not(clsp: Run, tmp_path: Path) -> None:
    _, sound = _findings(clsp)
    copy = shutil.copytree(BUNDLE, tmp_path / "bundle")
    (copy / "speech.onnx").write_bytes(b"not a graph")
    status, broken = _findings(clsp, "--bundle", copy)
    assert status == 1
    assert broken.keys() == sound.keys()
    assert {name for name, one in broken.items() if one["status"] == "broken"} == {"bundle", "encoders"}


def test_doctor_sees_what_the_data_folder_is(clsp: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, found = _findings(clsp, "--data-dir", tmp_path / "file")
    assert (status, found["data folder"]["status"]) == (1, "broken")
    (tmp_path / "used").mkdir()
    lock = FolderLock(tmp_path / "used")
    status, found = _findings(clsp, CLSP_DATA_DIR=str(tmp_path / "used"))
    lock.release()
    assert (status, found["data folder"]["status"]) == (0, "note")
    assert "in use" in found["data folder"]["detail"]
    assert not (tmp_path / "data").exists(), "doctor only looks"


def test_doctor_names_a_bad_setting(clsp: Run) -> None:
    status, found = _findings(clsp, CLSP_PORT="many")
    assert status == 1
    assert "port" in found["settings"]["detail"]


def test_serve_refuses_in_words(clsp: Run, tmp_path: Path) -> None:
    assert "CLSP_PORT" in clsp("serve", CLSP_PORT="many").err
    missing = clsp("serve", "--bundle", tmp_path / "nowhere")
    assert missing.status == 1
    assert "no bundle at" in missing.err
    with local_server(tmp_path / "data") as server:
        second = clsp("serve", "--data-dir", tmp_path / "data", "--port", 0)
        assert second.status == 1
        assert f"process {server.pid}" in second.err
    for done in (missing, second):
        assert "Traceback" not in done.err


def test_serve_stops_when_asked_and_frees_the_folder(tmp_path: Path) -> None:
    with local_server(tmp_path / "data") as server:
        assert httpx.get(f"{server.url}/readyz").status_code == 200
    # The first one is gone, so a second one may have the folder; this one is stopped by hand to see its status.
    process = subprocess.Popen(
        [str(CLSP), "serve", "--data-dir", str(tmp_path / "data"), "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stderr is not None
    deadline = time.monotonic() + 60
    while "running on" not in process.stderr.readline().lower():
        assert process.poll() is None, "it stopped by itself"
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    FolderLock(tmp_path / "data").release()


def test_local_server_says_why_it_did_not_start(tmp_path: Path) -> None:
    with (
        pytest.raises(Exception, match="no bundle at"),
        local_server(tmp_path / "data", bundle=tmp_path / "nowhere"),
    ):
        pass
