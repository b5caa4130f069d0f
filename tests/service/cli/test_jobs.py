"""`clsp ingest --server-side`, `clsp jobs`, and what an ingest says when it is interrupted or meets foreign audio."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clsp_client import Client
from service.cli.local_server import local_server
from tests.support.clsp_script import CLSP, LIBRARY, Done, Run, run_clsp
from tests.support.serving import heed_interrupts


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    for name in ("man-us-low", "woman-us-high"):
        shutil.copy(LIBRARY / f"{name}.ogg", folder)
    (folder / "phone.m4a").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0" * 9)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shards")


@pytest.fixture(scope="module")
def url(root: Path, shards: Path) -> Iterator[str]:
    with local_server(environment={"CLSP_INGEST_ROOTS": f"lib={root},shards={shards}"}) as server:
        yield server.url


def test_a_job_on_the_server_is_watched_and_its_refusals_listed(url: str, root: Path, tmp_path: Path) -> None:
    done = run_clsp("ingest", "served", "lib", "--server-side", cwd=tmp_path, environment={"CLSP_URL": url})
    assert done.status == 3, done.err
    assert "2 added, 1 failed" in done.out
    assert "lib/phone.m4a" in done.out and "M4A" in done.out
    (row,) = [json.loads(line) for line in (tmp_path / "served-failures.jsonl").read_text("utf-8").splitlines()]
    assert row["id"] == "phone.m4a" and row["type"].endswith("invalid-audio")

    def jobs(*arguments: object) -> str:
        found = run_clsp("jobs", *arguments, "--url", url, cwd=tmp_path)
        assert found.status in (0, 3), found.err
        return found.out

    (job,) = json.loads(jobs("list", "--json"))["data"]
    assert "succeeded" in jobs("list")
    assert "clsp jobs watch" in jobs("resume", job["id"])
    assert json.loads(jobs("watch", job["id"], "--json"))["refused"] == 1
    again = run_clsp("jobs", "cancel", job["id"], "--url", url, cwd=tmp_path)
    assert again.status == 1 and "(409)" in again.err


def test_what_the_server_may_not_read_is_refused_in_words(url: str, tmp_path: Path) -> None:
    done = run_clsp("ingest", "served", "/etc", "--server-side", cwd=tmp_path, environment={"CLSP_URL": url})
    assert done.status == 1
    assert "there are: lib, shards" in done.err


def test_a_folder_of_embeddings_is_named_by_its_kind(url: str, root: Path, shards: Path, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    with Client(url) as client:
        model = client.models()[0]
    vector = [1.0] + [0.0] * (model["embedding_dim"] - 1)
    row = {"id": "e1", "embedding": vector, "duration_s": 2.5, "identity": model["identity"]}
    pq.write_table(pa.Table.from_pylist([row]), shards / "a.parquet")

    def ingest(*arguments: object) -> Done:
        return run_clsp("ingest", "embedded", *arguments, "--url", url, cwd=tmp_path)

    taken_for_audio = ingest("shards", "--server-side")
    assert taken_for_audio.status == 1
    assert "shards holds no audio" in taken_for_audio.err and "of the kind parquet" in taken_for_audio.err
    done = ingest("shards", "--server-side", "--kind", "parquet")
    assert (done.status, "1 added" in done.out) == (0, True), done.err
    assert "needs --server-side" in ingest(root, "--kind", "folder").err


def test_the_client_waits_with_progress(url: str) -> None:
    with Client(url) as client:
        assert client.ingest_roots() == ["lib", "shards"]
        client.create_collection("waited")
        seen: list[int] = []
        job = client.wait_job(
            client.start_ingest("waited", "lib")["id"], progress=lambda job: seen.append(job["done"]), every_s=0.05
        )
        assert (job["state"], seen[-1]) == ("succeeded", 3)
        assert seen == sorted(seen)
        assert [one["id"] for one in client.refused(job["id"])] == ["phone.m4a"]
        assert client.jobs_page(collection="waited")["data"][0]["id"] == job["id"]


def test_audio_that_cannot_be_read_is_named_not_passed_over(online: Run, root: Path, tmp_path: Path) -> None:
    done = online("ingest", "foreign", root)
    assert done.status == 3
    assert "2 added, 1 failed" in done.out
    assert "phone.m4a" in done.out and "the MP4 or M4A file" in done.out


def opened_for_writing(pipe: Path) -> int:
    """A descriptor of a pipe that somebody has opened to read from."""
    give_up = time.monotonic() + 60
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO and time.monotonic() < give_up
        time.sleep(0.02)


def test_an_interrupt_says_what_was_done_and_how_to_go_on(cli_server_url: str, tmp_path: Path) -> None:
    """The last file of the folder is a pipe: the command is interrupted while it waits to read from it."""
    folder = tmp_path / "stuck"
    folder.mkdir()
    for name in ("a.ogg", "b.ogg"):
        shutil.copy(LIBRARY / "man-us-low.ogg", folder / name)
    rows = [{"file": name} for name in ("a.ogg", "gone.ogg", "b.ogg", "pipe.ogg")]
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    os.mkfifo(folder / "pipe.ogg")
    command = [str(CLSP), "ingest", "stuck", str(folder / "m.jsonl"), "--batch", "1"]
    environment = {**os.environ, "CLSP_URL": cli_server_url, "COLUMNS": "160", "NO_COLOR": "1"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    with Client(cli_server_url) as client:
        client.create_collection("stuck")
        give_up = time.monotonic() + 60
        while not client.collection("stuck")["items"]:
            assert time.monotonic() < give_up and process.poll() is None
            time.sleep(0.02)
    writer = opened_for_writing(folder / "pipe.ogg")  # so all before it has been dealt with
    process.send_signal(signal.SIGINT)
    # A signal that comes just before read() blocks is noted but does not end it: then the end of the pipe does.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=2)
    os.close(writer)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped after 2 of 4 clips: 1 added, 1 failed." in err
    assert "Run the same command again to go on" in err
    assert "Traceback" not in err
    assert "gone.ogg" in (tmp_path / "stuck-failures.jsonl").read_text("utf-8")
