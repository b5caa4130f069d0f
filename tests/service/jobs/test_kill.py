"""kill -9 in the middle of a job, again and again: nothing is lost, and nothing that was stored is encoded again."""

import os
import random
import signal
import sqlite3
import time
from pathlib import Path

import httpx
import pytest

from service.cli.local_server import local_server
from tests.support.jobs import Job, clips, encoded_pieces, ended, refusals, start

Stored = dict[str, tuple[str, str]]


def stored(data_dir: Path) -> Stored:
    """What the catalog of a dead service holds: when each clip was first and last written."""
    with sqlite3.connect(data_dir / "catalog.sqlite") as catalog:
        rows = catalog.execute("SELECT id, created_at, updated_at FROM items").fetchall()
    return {id: (created, updated) for id, created, updated in rows}


def kill_when(server_pid: int, client: httpx.Client, job: Job, done: int) -> None:
    """Kill the service once the job has dealt with so many clips, or has ended."""
    give_up = time.monotonic() + 120
    while True:
        now = client.get(f"/v1/jobs/{job['id']}").json()
        if now["done"] >= done or now["ended_at"]:
            break
        assert time.monotonic() < give_up
    os.kill(server_pid, signal.SIGKILL)


def through_kills(tmp_path: Path, count: int, moments: list[int]) -> None:
    data_dir, root = tmp_path / "data", tmp_path / "lib"
    clips(root, count)
    (root / "clip-010.bad.wav").write_text("not audio\n" * 20)
    environment = {"CLSP_INGEST_ROOTS": str(root), "CLSP_BATCH_AUDIO_S": "4"}
    job: Job | None = None
    before: Stored = {}
    for moment in moments:
        with local_server(data_dir, environment=environment) as server, httpx.Client(base_url=server.url) as client:
            job = job or start(client, "lib")
            kill_when(server.pid, client, job, moment)
        after = stored(data_dir)
        assert {id: after[id] for id in before} == before, "what was stored is still there, and was not written again"
        before = after
    assert job is not None
    with local_server(data_dir, environment=environment) as server, httpx.Client(base_url=server.url) as client:
        done = ended(client, job)
        assert (done["state"], done["total"], done["added"], done["refused"]) == ("succeeded", count + 1, count, 1)
        assert done["encoded"] == count
        assert [row["id"] for row in refusals(client, job)] == ["clip-010.bad.wav"]
        assert encoded_pieces(client) == count - len(before), "the encoder saw what was missing, and nothing else"
    final = stored(data_dir)
    assert {id: final[id] for id in before} == before
    assert len(final) == count
    assert all(created == updated for created, updated in final.values())


def test_a_job_survives_kills(tmp_path: Path) -> None:
    through_kills(tmp_path, 60, [1, 30])


@pytest.mark.slow
def test_a_job_survives_many_kills(tmp_path: Path) -> None:
    generator = random.Random(5)
    through_kills(tmp_path, 500, sorted(generator.randrange(500) for _ in range(25)))


def test_a_watched_job_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    """SIGTERM ends event streams, puts the job back, and the next start goes on with it."""
    data_dir, root = tmp_path / "data", tmp_path / "lib"
    clips(root, 60)
    environment = {"CLSP_INGEST_ROOTS": str(root), "CLSP_BATCH_AUDIO_S": "2"}
    with (
        local_server(data_dir, environment=environment) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        job = start(client, "lib")
        with client.stream("GET", f"/v1/jobs/{job['id']}/events") as response:
            lines = response.iter_lines()
            while not next(lines).startswith("data: "):
                pass
            os.kill(server.pid, signal.SIGTERM)
            rest = list(lines)  # ends, rather than last until a request's deadline
    assert not any("failed" in line or "cancelled" in line for line in rest)
    before = stored(data_dir)
    with local_server(data_dir, environment=environment) as server, httpx.Client(base_url=server.url) as client:
        done = ended(client, job)
        assert (done["state"], done["added"], done["encoded"]) == ("succeeded", 60, 60)
        assert encoded_pieces(client) == 60 - len(before)
