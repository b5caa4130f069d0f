"""The service over Milvus: two replicas, each with its own process state and nothing else, one library."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from service.cli.doctor import data_folder
from service.settings import Settings
from tests.support.audio_files import encode, voice
from tests.support.http import add, clip, refused
from tests.support.milvus import RUN, milvus_under_test
from tests.support.serving import Serve, Server

LIBRARY = "/v1/collections/voices"


@pytest.fixture(scope="module")
def milvus_uri() -> Iterator[str]:
    with milvus_under_test() as uri:
        yield uri


@pytest.fixture(scope="module")
def replicas(serve: Serve, milvus_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    shared = tmp_path_factory.mktemp("media")
    milvus = {"milvus_uri": milvus_uri, "milvus_prefix": RUN, "milvus_index_type": "FLAT", "milvus_media_dir": shared}
    options = {**milvus, "threads": 1}
    # What a replica has of its own is its jobs.
    folders = [tmp_path_factory.mktemp("replica") for _ in range(2)]
    with serve(data_dir=folders[0], **options) as one, serve(data_dir=folders[1], **options) as two:
        yield [one, two]


def test_what_one_replica_stores_every_replica_finds_and_plays(replicas: list[Server]) -> None:
    one, two = (server.client for server in replicas)
    assert one.put(LIBRARY, json={"description": "two of us"}).status_code == 201
    assert two.put(LIBRARY).status_code == 200
    sound = clip(1.5, seed=3)
    assert add(one, LIBRARY, "low", sound, gender="male", age=40)["created"]
    assert add(two, LIBRARY, "high", clip(1.0, seed=9), gender="female")["created"]
    assert add(two, LIBRARY, "low", sound, gender="male", age=41)["created"] is False
    for client in (one, two):
        found = client.post(f"{LIBRARY}/search", json={"query": "a low voice", "filter": {"age": {"gt": 40}}})
        assert [hit["id"] for hit in found.json()["hits"]] == ["low"], found.text
        listed = client.get(f"{LIBRARY}/items", params={"limit": 1}).json()
        assert [item["id"] for item in listed["data"]] == ["high"]
        rest = client.get(f"{LIBRARY}/items", params={"limit": 1, "cursor": listed["next_cursor"]}).json()
        assert [item["id"] for item in rest["data"]] == ["low"]
        assert client.get(f"{LIBRARY}/items/low/audio", headers={"range": "bytes=0-9"}).content == sound[:10]
        similar = client.post(f"{LIBRARY}/search", json={"query": [{"item_id": "low"}], "include_query_item": True})
        assert similar.json()["hits"][0]["id"] == "low"
        refused(client.post(f"{LIBRARY}/search", json={"query": "x", "filter": {"pitch": 1}}), 422, "unknown-field")
    assert one.patch(f"{LIBRARY}/items/high", json={"metadata": {"age": 30}}).status_code == 200
    assert two.get(f"{LIBRARY}/items/high").json()["metadata"] == {"gender": "female", "age": 30}
    assert two.delete(f"{LIBRARY}/items/low").status_code == 204
    refused(one.get(f"{LIBRARY}/items/low"), 404, "unknown-item")
    assert one.get(LIBRARY).json()["items"] == 1
    assert one.delete(LIBRARY).status_code == 204
    refused(two.get(LIBRARY), 404, "unknown-collection")


def test_a_refused_clip_leaves_nothing_behind(replicas: list[Server]) -> None:
    one, two = (server.client for server in replicas)
    path = "/v1/collections/refused"
    assert one.put(path).status_code == 201
    files = [("files", ("a.wav", clip())), ("files", ("b.wav", encode(0 * voice(1.0, 16_000), 16_000, "wav-16")))]
    refused(one.post(f"{path}/items", files=files), 422, "invalid-audio")
    assert two.get(f"{path}/items").json()["data"] == []
    assert one.delete(path).status_code == 204


def test_audio_on_milvus_needs_a_shared_folder() -> None:
    with pytest.raises(ValidationError, match="milvus_media_dir, a folder that all replicas share"):
        Settings(milvus_uri="http://milvus:19530")
    Settings(milvus_uri="http://milvus:19530", keep_media=False)


def test_doctor_says_whether_milvus_answers(milvus_uri: str) -> None:
    there = data_folder(Settings(milvus_uri=milvus_uri, milvus_prefix=RUN, keep_media=False))
    assert (there.status, there.check) == ("ok", "milvus")
    gone = data_folder(Settings(milvus_uri="http://127.0.0.1:9", keep_media=False, milvus_timeout_s=0.5))
    assert gone.status == "broken"
    assert "127.0.0.1:9" in gone.detail
