"""Bulk ingest as a job: what becomes of every clip, what is refused, who may do what, and how it is stopped."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_support import clip, data_uri, refused
from jobs_support import clips, encoded_pieces, ended, refusals, start, until, write_manifest
from serving import Serve, Server

from index.errors import StoreLocked
from service.jobs.errors import JobsBroken
from service.jobs.store import JobStore
from service.settings import Settings


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def own(serve: Serve, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that may read one folder of its server."""
    options = {"ingest_roots": [f"lib={root}"], "ingest_max_line_bytes": 65_536}
    with serve(data_dir=tmp_path_factory.mktemp("data"), **options) as running:
        yield running


def hold_encoder(
    server: Server, after: int, batches: list[list[int]] | None = None
) -> tuple[threading.Event, threading.Event]:
    """Let the encoder wait once it has done so many batches: (it waits, let it go on). `batches` get their lengths."""
    waits, go = threading.Event(), threading.Event()
    runtime = server.app.state.services.engine.runtime
    original, done = runtime.embed_speech, 0

    def held(waves: list[Any]) -> object:
        nonlocal done
        if batches is not None:
            batches.append([len(wave) for wave in waves])
        if done >= after:
            waits.set()
            assert go.wait(60)
        done += 1
        return original(waves)

    runtime.embed_speech = held
    return waits, go


def test_a_folder_is_ingested_and_only_what_is_new_is_encoded(own: Server, root: Path) -> None:
    clips(root / "a", 4)
    clips(root / "a" / "deep" / "er", 2, first=4)
    (root / "a" / "readme.txt").write_text("not audio")
    before = encoded_pieces(own.client)
    first = ended(own.client, start(own.client, "lib/a"))
    assert (first["state"], first["total"], first["added"], first["refused"]) == ("succeeded", 6, 6, 0)
    assert (first["encoded"], round(first["audio_s"])) == (6, 6)
    assert encoded_pieces(own.client) - before == 6
    names = [item["id"] for item in own.client.get("/v1/collections/voices/items").json()["data"]]
    assert names == [f"clip-{i:03}.wav" for i in range(4)] + [f"deep__er__clip-{i:03}.wav" for i in (4, 5)]
    audio = own.client.get("/v1/collections/voices/items/clip-000.wav/audio")
    assert audio.content == (root / "a" / "clip-000.wav").read_bytes()

    (root / "a" / "clip-001.wav").write_bytes(clip(1, seed=77))
    own.client.patch("/v1/collections/voices/items/clip-001.wav", json={"metadata": {"kept": True}})
    second = ended(own.client, start(own.client, "lib/a"))
    assert (second["unchanged"], second["replaced"], second["added"], second["encoded"]) == (5, 1, 0, 1)
    assert encoded_pieces(own.client) - before == 7
    item = own.client.get("/v1/collections/voices/items/clip-001.wav").json()
    assert item["metadata"] == {"kept": True}, "a folder says nothing about its clips, so that nothing is taken away"


def test_one_content_under_two_names_is_encoded_once(own: Server, root: Path) -> None:
    for name in ("one.wav", "two.wav", "three.wav"):
        (root / "same").mkdir(exist_ok=True)
        (root / "same" / name).write_bytes(clip(1, seed=501))
    before = encoded_pieces(own.client)
    job = ended(own.client, start(own.client, "lib/same", collection="same"))
    assert job["added"] == 3
    assert encoded_pieces(own.client) - before == 1


def test_a_manifest_names_relabels_and_refuses_line_by_line(own: Server, root: Path) -> None:
    clips(root / "m", 3, first=20)
    good = {"file": "clip-020.wav", "id": "anna", "metadata": {"take": 1}, "speaker": "anna", "skipped": None}
    rows: list[Any] = [
        good,
        {"path": "clip-021.wav"},
        "{not json",
        "[1]",
        {"id": "no-file"},
        "",
        {"file": "clip-022.wav", "id": "anna"},
        {"file": "gone.wav", "id": "gone"},
        {"file": "../../etc/passwd", "id": "escape"},
        {"file": "/etc/passwd", "id": "absolute"},
        {"file": "clip-022.wav", "id": "nested", "metadata": {"a": {"b": 1}}},
        {"file": "clip-022.wav", "id": "a/b"},
        '{"file": "' + "x" * 70_000 + '"}',
    ]
    write_manifest(root / "m" / "list.jsonl", rows)
    job = ended(own.client, start(own.client, "lib/m/list.jsonl", "manifest", "listed"))
    assert (job["state"], job["added"], job["refused"]) == ("succeeded", 2, 10)
    report = {row["number"]: row for row in refusals(own.client, job)}
    assert sorted(report) == [3, 4, 5, 7, 8, 9, 10, 11, 12, 13]
    said = {number: row["error"]["detail"] for number, row in report.items()}
    assert "line 3" in said[3]
    assert "needs `file`" in said[5]
    assert "taken by another" in said[7]
    assert report[8]["id"] == "gone" and "No such file" in said[8]
    assert "leads out of the root" in said[9]
    assert "absolute" in said[10]
    assert "nested" in said[11]
    assert "must not contain '/'" in said[12]
    assert report[13]["error"]["type"] == "urn:clsp-service:error:invalid-source"
    item = own.client.get("/v1/collections/listed/items/anna").json()
    assert item["metadata"] == {"take": 1, "speaker": "anna"}

    write_manifest(root / "m" / "list.jsonl", [{**good, "metadata": {"take": 2}}, {"path": "clip-021.wav"}])
    again = ended(own.client, start(own.client, "lib/m/list.jsonl", "manifest", "listed"))
    assert (again["relabelled"], again["unchanged"], again["encoded"]) == (1, 1, 0)
    item = own.client.get("/v1/collections/listed/items/anna").json()
    assert item["metadata"] == {"take": 2, "speaker": "anna"}


def test_bad_files_are_refused_one_by_one_and_tried_again(own: Server, root: Path) -> None:
    folder = root / "bad"
    clips(folder, 2, first=40)
    (folder / "text.wav").write_text("these are not samples\n" * 50)
    (folder / "empty.mp3").write_bytes(b"")
    (folder / "cut.wav").write_bytes(clip(1, seed=44)[:5000])
    (folder / "phone.m4a").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0" * 9)
    job = ended(own.client, start(own.client, "lib/bad", collection="bad"))
    assert (job["state"], job["added"], job["refused"]) == ("succeeded", 2, 4)
    report = {row["id"]: row["error"] for row in refusals(own.client, job)}
    assert report.keys() == {"text.wav", "empty.mp3", "cut.wav", "phone.m4a"}
    assert "M4A" in report["phone.m4a"]["detail"]
    assert {one["type"] for one in report.values()} == {"urn:clsp-service:error:invalid-audio"}
    numbers = [row["number"] for row in refusals(own.client, job)]
    assert [row["number"] for row in refusals(own.client, job, after=numbers[0], limit=2)] == numbers[1:3]

    (folder / "cut.wav").write_bytes(clip(1, seed=44))
    before = encoded_pieces(own.client)
    assert own.client.post(f"/v1/jobs/{job['id']}/resume").status_code == 200
    again = until(own.client, job, lambda now: now["added"] == 3 and now["state"] == "succeeded")
    assert (again["refused"], again["done"], again["total"]) == (3, 6, 6)
    assert encoded_pieces(own.client) - before == 1


@pytest.mark.parametrize(
    "path", ["lib/..", "lib/../etc", "lib/a/../../../etc", "/etc", "..", "etc", "lib/nowhere", "lib/a\0b", "lib/link"]
)
def test_nothing_outside_the_roots_can_be_named(own: Server, root: Path, path: str) -> None:
    own.client.put("/v1/collections/voices")
    if not (root / "link").is_symlink():
        (root / "link").symlink_to("/etc")
    for kind in ("folder", "manifest", "parquet"):
        answer = own.client.post("/v1/collections/voices/ingest", json={"kind": kind, "path": path})
        refused(answer, 422, "invalid-source", field="path")


def test_links_below_a_root_are_never_followed(own: Server, root: Path, tmp_path: Path) -> None:
    (secret,) = clips(tmp_path / "outside", 1, first=60)
    folder = root / "links"
    clips(folder / "real", 1, first=61)
    (folder / "file.wav").symlink_to(secret)
    (folder / "folder").symlink_to(secret.parent)
    write_manifest(folder / "list.jsonl", [{"file": "file.wav"}, {"file": "folder/clip-060.wav"}, {"file": "pipe.wav"}])
    os.mkfifo(folder / "pipe.wav")
    job = ended(own.client, start(own.client, "lib/links", collection="links"))
    assert (job["added"], job["refused"]) == (1, 2), "the linked folder is not even listed"
    assert {row["file"] for row in refusals(own.client, job)} == {"lib/links/file.wav", "lib/links/pipe.wav"}
    job = ended(own.client, start(own.client, "lib/links/list.jsonl", "manifest", "links"))
    assert (job["added"], job["refused"]) == (0, 3)
    assert own.client.get("/v1/collections/links").json()["items"] == 1


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
        metrics = own.client.get("/metrics").text
        assert 'clsp_jobs{state="succeeded"} 1.0' in metrics
        assert 'clsp_job_items_total{outcome="added"} 3.0' in metrics


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
        jobs = own.app.state.services.jobs
        jobs_stop = jobs.stop

        async def stop() -> None:
            await jobs_stop()
            go.set()

        jobs.stop = stop
    with serve(**options) as own:
        done = ended(own.client, job)
        assert (done["state"], done["added"], done["encoded"]) == ("succeeded", 30, 30)
        assert encoded_pieces(own.client) <= 30 - stored


def test_what_was_stored_but_not_struck_off_is_counted_once(serve: Serve, data_dir: Path, tmp_path: Path) -> None:
    """The moment between the catalog's commit and the job's, as a kill there would leave it."""
    clips(tmp_path / "lib", 5)
    with serve(data_dir=data_dir, ingest_roots=[tmp_path / "lib"]) as own:
        store: JobStore = own.app.state.services.jobs._jobs
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


def test_no_roots_no_jobs(server: Server, collection: str) -> None:
    assert server.client.get("/v1/ingest-roots").json() == {"data": []}
    answer = server.client.post(f"{collection}/ingest", json={"kind": "folder", "path": "etc"})
    refused(answer, 403, "ingest-off")
    for method, path in (
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/refused"),
        ("POST", "/cancel"),
        ("POST", "/resume"),
    ):
        refused(server.client.request(method, f"/v1/jobs/{'0' * 32}{path}"), 404, "unknown-job")


def test_bad_requests_are_named(own: Server, root: Path) -> None:
    own.client.put("/v1/collections/voices")
    (root / "file.txt").write_text("x")
    (root / "dir").mkdir(exist_ok=True)
    post = own.client.post
    url = "/v1/collections/voices/ingest"
    refused(post(url, json={"kind": "folder", "path": "lib/file.txt"}), 422, "invalid-source", field="kind")
    refused(post(url, json={"kind": "manifest", "path": "lib/dir"}), 422, "invalid-source", field="kind")
    refused(post(url, json={"kind": "zip", "path": "lib"}), 422, "invalid-request", field="kind")
    refused(post(url, json={"kind": "folder"}), 422, "invalid-request", field="path")
    body = {"kind": "folder", "path": "lib"}
    refused(post("/v1/collections/nobody/ingest", json=body), 404, "unknown-collection")


def test_two_owners_of_the_jobs_cannot_be(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    with pytest.raises(StoreLocked):
        JobStore(tmp_path)
    store.close()
    JobStore(tmp_path).close()


def test_roots_are_named_and_distinct() -> None:
    roots = Settings(ingest_roots=["/srv/recordings", "news=/srv/old/news"]).ingest_roots
    assert [(root.name, str(root.path)) for root in roots] == [
        ("recordings", "/srv/recordings"),
        ("news", "/srv/old/news"),
    ]
    with pytest.raises(ValueError, match="share one name"):
        Settings(ingest_roots=["/a/x", "/b/x"])
