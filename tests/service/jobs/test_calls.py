"""Bulk ingest as a job: what becomes of every clip, what is refused, who may do what, and how it is stopped."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from tests.support.http import clip, refused
from tests.support.jobs import clips, encoded_pieces, ended, refusals, start, until, write_manifest
from tests.support.serving import Serve, Server


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def own(serve: Serve, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that may read one folder of its server."""
    options = {"ingest_roots": [f"lib={root}"], "ingest_max_line_bytes": 65_536}
    with serve(data_dir=tmp_path_factory.mktemp("data"), **options) as running:
        yield running


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


def test_what_operating_systems_leave_is_no_entry(own: Server, root: Path) -> None:
    folder = root / "zipped"
    clips(folder, 1, first=90)
    clips(folder / "__MACOSX", 1, first=91)
    (folder / "._clip-090.wav").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ")
    job = ended(own.client, start(own.client, "lib/zipped", collection="zipped"))
    assert (job["added"], job["refused"], job["total"]) == (1, 0, 1)


def test_a_folder_without_audio_fails_its_job(own: Server, root: Path) -> None:
    (root / "none" / "deep").mkdir(parents=True)
    (root / "none" / "deep" / "part-0.parquet").write_bytes(b"embeddings")
    job = ended(own.client, start(own.client, "lib/none", collection="none"))
    assert (job["state"], job["error"]["type"]) == ("failed", "urn:clsp-service:error:invalid-source")
    assert "lib/none holds no audio" in job["error"]["detail"]
    clips(root / "none", 1, first=90)
    own.client.post(f"/v1/jobs/{job['id']}/resume")
    assert until(own.client, job, lambda now: now["state"] == "succeeded")["added"] == 1


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
        '{"file": ' + "[" * 60_000,
    ]
    write_manifest(root / "m" / "list.jsonl", rows)
    job = ended(own.client, start(own.client, "lib/m/list.jsonl", "manifest", "listed"))
    assert (job["state"], job["added"], job["refused"]) == ("succeeded", 2, 11)
    report = {row["number"]: row for row in refusals(own.client, job)}
    assert sorted(report) == [3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14]
    said = {number: row["error"]["detail"] for number, row in report.items()}
    assert "line 3" in said[3]
    assert "needs `file`" in said[5]
    assert "taken by another" in said[7]
    assert report[8]["id"] == "gone" and "No such file" in said[8]
    assert "leads out of the root" in said[9]
    assert "absolute" in said[10]
    assert "nested" in said[11]
    assert "must not contain '/'" in said[12]
    assert "nested too deeply" in said[14]
    assert report[13]["error"]["type"] == "urn:clsp-service:error:invalid-source"
    item = own.client.get("/v1/collections/listed/items/anna").json()
    assert item["metadata"] == {"take": 1, "speaker": "anna"}

    write_manifest(root / "m" / "list.jsonl", [{**good, "metadata": {"take": 2}}, {"path": "clip-021.wav"}])
    again = ended(own.client, start(own.client, "lib/m/list.jsonl", "manifest", "listed"))
    assert (again["relabelled"], again["unchanged"], again["encoded"]) == (1, 1, 0)
    item = own.client.get("/v1/collections/listed/items/anna").json()
    assert item["metadata"] == {"take": 2, "speaker": "anna"}


def test_a_manifest_may_begin_with_a_byte_order_mark(own: Server, root: Path) -> None:
    clips(root / "marked", 2, first=80)
    rows = [{"file": "clip-080.wav", "caption": "one\u2028two"}, {"file": "clip-081.wav"}]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (root / "marked" / "list.jsonl").write_text(text, "utf-8-sig")
    job = ended(own.client, start(own.client, "lib/marked/list.jsonl", "manifest", "marked"))
    assert (job["added"], job["refused"]) == (2, 0)
    item = own.client.get("/v1/collections/marked/items/clip-080.wav").json()
    assert item["metadata"] == {"caption": "one\u2028two"}


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


def test_roots_are_named_and_distinct() -> None:
    roots = Settings(ingest_roots=["/srv/recordings", "news=/srv/old/news"]).ingest_roots
    assert [(root.name, str(root.path)) for root in roots] == [
        ("recordings", "/srv/recordings"),
        ("news", "/srv/old/news"),
    ]
    with pytest.raises(ValueError, match="share one name"):
        Settings(ingest_roots=["/a/x", "/b/x"])
