"""How jobs run, stop and go on: cancelled, waiting, passed by others, put back, recovered, given up, forgotten."""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from index.errors import StorageFailed, StoreLocked
from service.jobs.errors import JobsBroken
from service.jobs.store import JobStore
from tests.support.http import clip, data_uri, refused
from tests.support.jobs import clips, encoded_pieces, ended, hold_encoder, refusals, start, until
from tests.support.serving import Serve, heed_interrupts


def test_a_cancelled_job_stops_and_can_be_resumed(serve: Serve, data_dir: Path, tmp_path: Path) -> None:
    clips(tmp_path / "lib", 40)
    with serve(data_dir=data_dir, ingest_roots=[tmp_path / "lib"], batch_audio_s=4.0) as own:
        waits, go = hold_encoder(own, after=3)
        job = start(own.client, "lib")
        assert waits.wait(60)
        until(own.client, job, lambda now: now["added"] > 0)
        cancelled = own.client.post(f"/v1/jobs/{job['id']}/cancel").json()
        assert cancelled["state"] == "cancelled"
        assert 0 < cancelled["added"] < 40
        assert own.client.get("/v1/collections/voices").json()["items"] == cancelled["added"]
        assert own.client.post(f"/v1/jobs/{job['id']}/cancel").json() == cancelled, "again changes nothing"
        go.set()
        assert own.client.post(f"/v1/jobs/{job['id']}/resume").json()["state"] in ("queued", "running")
        done = ended(own.client, job)
        assert (done["state"], done["added"], done["encoded"]) == ("succeeded", 40, 40)
        refused(own.client.post(f"/v1/jobs/{job['id']}/cancel"), 409, "conflict")
        refused(own.client.post(f"/v1/jobs/{job['id']}/resume"), 409, "conflict")


def test_a_waiting_job_is_cancelled_at_once_and_too_many_are_refused(
    serve: Serve, data_dir: Path, tmp_path: Path
) -> None:
    for name in ("lib", "lib/second", "lib/third"):
        clips(tmp_path / name, 1, first=len(name))
    with serve(data_dir=data_dir, ingest_roots=[tmp_path / "lib"], ingest_jobs_waiting=1) as own:
        waits, go = hold_encoder(own, after=0)
        running = start(own.client, "lib")
        assert waits.wait(60)
        second = start(own.client, "lib/second")
        assert second["state"] == "queued"
        assert start(own.client, "lib")["id"] == running["id"], "asked twice, it is one job"
        assert start(own.client, "lib/./second")["id"] == second["id"]
        third = own.client.post("/v1/collections/voices/ingest", json={"kind": "folder", "path": "lib/third"})
        assert "Retry-After" in third.headers
        refused(third, 429, "too-many-jobs")
        assert own.client.post(f"/v1/jobs/{second['id']}/cancel").json()["state"] == "cancelled"
        page = own.client.get("/v1/jobs", params={"limit": 1}).json()
        assert [job["id"] for job in page["data"]] == [second["id"]]
        rest = own.client.get("/v1/jobs", params={"cursor": page["next_cursor"]}).json()
        assert ([job["id"] for job in rest["data"]], rest["next_cursor"]) == ([running["id"]], None)
        found = own.client.get("/v1/jobs", params={"state": "cancelled", "collection": "voices"}).json()["data"]
        assert [job["id"] for job in found] == [second["id"]]
        assert own.client.get("/v1/jobs", params={"collection": "other"}).json()["data"] == []
        refused(own.client.get("/v1/jobs", params={"cursor": "MTph"}), 422, "invalid-cursor", field="cursor")
        go.set()
        assert ended(own.client, running)["state"] == "succeeded"
        assert 'clsp_job_items_total{outcome="added"} 3.0' in own.client.get("/metrics").text
        until(own.client, running, lambda _: 'clsp_jobs{state="succeeded"} 1.0' in own.client.get("/metrics").text)


def test_a_job_runs_though_its_caller_hung_up_while_it_was_written_down(
    serve: Serve, data_dir: Path, tmp_path: Path
) -> None:
    clips(tmp_path / "lib", 2)
    with serve(data_dir=data_dir, ingest_roots=[tmp_path / "lib"]) as own:
        own.client.put("/v1/collections/voices").raise_for_status()
        written, go = threading.Event(), threading.Event()
        jobs = own.app.state.jobs._jobs
        create = jobs.create

        def slow(**source: Any) -> object:
            job = create(**source)
            written.set()
            assert go.wait(60)
            return job

        jobs.create = slow
        body = json.dumps({"kind": "folder", "path": "lib"})
        head = f"POST /v1/collections/voices/ingest HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        with socket.create_connection(("127.0.0.1", httpx.URL(own.url).port or 80)) as caller:
            caller.sendall(f"{head}Content-Type: application/json\r\n\r\n{body}".encode())
            assert written.wait(60)
        (job,) = own.client.get("/v1/jobs").json()["data"]
        until(own.client, job, lambda _: "clsp_requests_in_flight 1.0" in own.client.get("/metrics").text)
        go.set()
        assert ended(own.client, job)["added"] == 2


def decoding_threads() -> int:
    return sum(thread.name.startswith("clsp-job-decode") for thread in threading.enumerate())


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing is freed by chance of a garbage collection."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
def test_an_ended_job_leaves_no_threads(serve: Serve, data_dir: Path, tmp_path: Path) -> None:
    clips(tmp_path / "lib", 4)
    with serve(data_dir=data_dir, ingest_roots=[tmp_path / "lib"], batch_audio_s=2.0) as own:
        before = decoding_threads()
        waits, go = hold_encoder(own, after=1)
        job = start(own.client, "lib")
        assert waits.wait(60)
        assert decoding_threads() > before
        assert own.client.post(f"/v1/jobs/{job['id']}/cancel").json()["state"] == "cancelled"
        go.set()
        until(own.client, job, lambda _: decoding_threads() == before)


def test_interactive_requests_pass_a_job(serve: Serve, data_dir: Path, tmp_path: Path) -> None:
    """While a job has filled the encoder's queue, a clip that somebody waits for is in the next batch."""
    clips(tmp_path / "lib", 40)
    with serve(data_dir=data_dir, ingest_roots=[tmp_path / "lib"], batch_audio_s=4.0) as own:
        batches: list[list[int]] = []
        waits, go = hold_encoder(own, after=1, batches=batches)
        job = start(own.client, "lib")
        assert waits.wait(60)
        until(own.client, job, lambda now: own.app.state.services.engine.stats().speech.waiting > 20)
        body = {"query": [{"audio": data_uri(clip(1.5, seed=900))}], "top_k": 1}
        search = threading.Thread(
            target=own.client.post, args=("/v1/collections/voices/search",), kwargs={"json": body}
        )
        search.start()
        interactive = own.app.state.services.engine._speech._waiting._queues[False]
        until(own.client, job, lambda now: bool(interactive))
        held = len(batches)
        go.set()
        search.join(60)
        ended(own.client, job)
    assert 24_000 in batches[held], "the batch after the one that was held"


def test_a_stop_leaves_the_job_to_the_next_start(serve: Serve, data_dir: Path, tmp_path: Path) -> None:
    clips(tmp_path / "lib", 30)
    options: dict[str, Any] = {"data_dir": data_dir, "ingest_roots": [tmp_path / "lib"], "batch_audio_s": 4.0}
    with serve(**options) as own:
        waits, go = hold_encoder(own, after=2)
        job = start(own.client, "lib")
        assert waits.wait(60)
        stored = until(own.client, job, lambda now: now["added"] > 0)["added"]
        # The encoder is let go when the jobs have been told to stop.
        jobs = own.app.state.jobs
        jobs_stop = jobs.stop

        async def stop() -> None:
            await jobs_stop()
            go.set()

        jobs.stop = stop
    with serve(**options) as own:
        done = ended(own.client, job)
        assert (done["state"], done["added"], done["encoded"]) == ("succeeded", 30, 30)
        assert encoded_pieces(own.client) <= 30 - stored


def test_an_interrupted_terminal_leaves_the_job_running_and_says_so(
    serve: Serve, data_dir: Path, tmp_path: Path
) -> None:
    clips(tmp_path / "lib", 4)
    with serve(data_dir=data_dir, ingest_roots=[tmp_path / "lib"], batch_audio_s=1.0) as own:
        waits, go = hold_encoder(own, after=2)
        command = [sys.executable, "-m", "service.cli", "ingest", "voices", "lib", "--server-side", "--url", own.url]
        watching = subprocess.Popen(
            command,
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            env=plain_terminal(),
            preexec_fn=heed_interrupts,
        )
        assert waits.wait(60)
        (job,) = own.client.get("/v1/jobs").json()["data"]
        until(own.client, job, lambda now: now["added"] == 2)
        watching.send_signal(signal.SIGINT)
        _, said = watching.communicate(timeout=60)
        assert watching.returncode == 130
        assert "Stopped after 2 of 4 clips: 2 added." in said
        assert f"clsp jobs watch {job['id']}" in said
        go.set()
        assert ended(own.client, job)["added"] == 4


def plain_terminal() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "160", "NO_COLOR": "1"}


def test_what_was_stored_but_not_struck_off_is_counted_once(serve: Serve, data_dir: Path, tmp_path: Path) -> None:
    """The moment between the catalog's commit and the job's, as a kill there would leave it."""
    clips(tmp_path / "lib", 5)
    with serve(data_dir=data_dir, ingest_roots=[tmp_path / "lib"]) as own:
        store: JobStore = own.app.state.jobs._jobs
        advance = store.advance

        def fail(*_: object) -> None:
            raise JobsBroken("no room on the disk")

        store.advance = fail  # type: ignore[method-assign, assignment]
        job = ended(own.client, start(own.client, "lib"))
        assert job["state"] == "failed"
        assert job["error"]["type"] == "urn:clsp-service:error:storage-failed"
        stored = own.client.get("/v1/collections/voices").json()["items"]
        assert stored > 0
        store.advance = advance  # type: ignore[method-assign]
        # What the encoder had in hand is over when it has answered somebody else.
        own.client.post("/v1/embeddings", json={"input": data_uri(clip(1, seed=901)), "modality": "audio"})
        before = encoded_pieces(own.client)
        own.client.post(f"/v1/jobs/{job['id']}/resume")
        done = ended(own.client, job)
        assert (done["state"], done["added"], done["unchanged"], done["encoded"]) == ("succeeded", 5, 0, 5)
        assert round(done["audio_s"]) == 5
        assert encoded_pieces(own.client) - before == 5 - stored


def test_what_the_encoder_fails_at_is_refused_alone_and_a_busy_disk_waited_for(
    serve: Serve, data_dir: Path, tmp_path: Path
) -> None:
    clips(tmp_path / "lib", 6)
    (tmp_path / "lib" / "poison.wav").write_bytes(clip(1.37, seed=700))
    with serve(data_dir=data_dir, ingest_roots=[tmp_path / "lib"]) as own:
        services = own.app.state.services
        embed, upsert = services.engine.runtime.embed_speech, services.store.upsert
        refusals_of_the_disk = 1

        def fails_at_one(waves: list[Any]) -> object:
            if any(len(wave) == 21_920 for wave in waves):
                raise RuntimeError("the device gave up")
            return embed(waves)

        def full_at_first(*arguments: Any, **options: Any) -> object:
            nonlocal refusals_of_the_disk
            if refusals_of_the_disk:
                refusals_of_the_disk -= 1
                raise StorageFailed("no room on the disk")
            return upsert(*arguments, **options)

        services.engine.runtime.embed_speech, services.store.upsert = fails_at_one, full_at_first
        done = ended(own.client, start(own.client, "lib"))
        assert (done["state"], done["added"], done["refused"]) == ("succeeded", 6, 1)
        (row,) = refusals(own.client, done)
        assert (row["id"], row["error"]["type"]) == ("poison.wav", "urn:clsp-service:error:engine-failed")
        assert own.client.get("/readyz").status_code == 200


def test_a_job_whose_collection_goes_fails_and_says_so(serve: Serve, data_dir: Path, tmp_path: Path) -> None:
    clips(tmp_path / "lib", 12)
    with serve(data_dir=data_dir, ingest_roots=[tmp_path / "lib"], batch_audio_s=2.0) as own:
        waits, go = hold_encoder(own, after=1)
        job = start(own.client, "lib")
        assert waits.wait(60)
        own.client.delete("/v1/collections/voices")
        go.set()
        failed = ended(own.client, job)
        assert (failed["state"], failed["error"]["type"]) == ("failed", "urn:clsp-service:error:unknown-collection")


def test_two_owners_of_the_jobs_cannot_be(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    with pytest.raises(StoreLocked):
        JobStore(tmp_path)
    store.close()
    JobStore(tmp_path).close()


def test_a_job_that_takes_the_service_along_is_given_up(serve: Serve, data_dir: Path, tmp_path: Path) -> None:
    clips(tmp_path / "lib", 2)
    options: dict[str, Any] = {"data_dir": data_dir, "ingest_roots": [tmp_path / "lib"]}
    with serve(**options) as own:
        own.client.put("/v1/collections/voices")
        identity = own.client.get("/v1/collections/voices").json()["identity"]
    store = JobStore(data_dir / "jobs")
    made = store.create(collection="voices", identity=identity, kind="folder", path="lib", most_waiting=1)
    for start_up in range(5):
        claimed = store.claim()
        assert claimed is not None and claimed[1] == start_up
        store.requeue_interrupted()
    store.close()
    with serve(**options) as own:
        failed = ended(own.client, {"id": made.id})
        assert (failed["state"], failed["error"]["title"]) == ("failed", "The job was given up")
        own.client.post(f"/v1/jobs/{made.id}/resume")
        assert until(own.client, failed, lambda job: job["state"] == "succeeded")["added"] == 2


def test_only_the_latest_ended_jobs_are_remembered(serve: Serve, data_dir: Path, tmp_path: Path) -> None:
    clips(tmp_path / "lib", 1)
    with serve(data_dir=data_dir, ingest_roots=[tmp_path / "lib"], ingest_jobs_kept=2) as own:
        jobs = [ended(own.client, start(own.client, "lib")) for _ in range(4)]
        kept = until(own.client, jobs[-1], lambda _: len(own.client.get("/v1/jobs").json()["data"]) == 2)
        assert kept["id"] == jobs[-1]["id"]
        refused(own.client.get(f"/v1/jobs/{jobs[0]['id']}"), 404, "unknown-job")


def test_damaged_jobs_stop_the_start_in_words(data_dir: Path) -> None:
    (data_dir / "jobs").mkdir(parents=True)
    (data_dir / "jobs" / "jobs.sqlite").write_bytes(b"this is no database" * 100)
    command = [sys.executable, "-m", "service.cli", "serve", "--port", "0", "--data-dir", str(data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert f"move {data_dir / 'jobs'} away to start without them" in done.stderr
