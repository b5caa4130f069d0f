"""Collections and their items: made, listed, edited, played and dropped over HTTP."""

import hashlib
import json
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from tests.support.audio_files import FORMATS
from tests.support.http import add, clip, data_uri, refused
from tests.support.serving import Serve, Server


def test_a_collection_is_made_once(client: httpx.Client) -> None:
    path = "/v1/collections/made-once"
    first = client.put(path, json={"description": "voices"})
    assert first.status_code == 201
    assert client.put(path).status_code == 200
    shown = client.get(path).json()
    assert shown == first.json()
    assert shown["description"] == "voices"
    assert "made-once" in [one["name"] for one in client.get("/v1/collections").json()["data"]]
    assert client.delete(path).status_code == 204
    refused(client.get(path), 404, "unknown-collection", field="collection")


def test_a_collection_of_another_model_is_refused(client: httpx.Client) -> None:
    path = "/v1/collections/foreign"
    problem = refused(client.put(path, json={"identity": "other"}), 409, "identity-mismatch", field="identity")
    assert problem["got"] == "other"
    refused(client.put(path, json={"dim": 3}), 422, "dimension-mismatch", field="dim")
    refused(client.get(path), 404, "unknown-collection")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_is_accepted_and_played_back(client: httpx.Client, collection: str, name: str) -> None:
    data = clip(1, rate=48_000, name=name)
    response = client.post(f"{collection}/items", files=[("files", (f"folder/{name}.audio", data))])
    assert response.status_code == 201, response.text
    (added,) = response.json()["items"]
    assert added["id"] == f"{name}.audio"
    assert added["created"] is True
    assert added["duration_s"] == pytest.approx(1, abs=0.1)
    audio = client.get(f"{collection}/items/{name}.audio/audio")
    assert audio.content == data
    assert audio.headers["content-type"].startswith("audio/")


def test_multipart_metadata_for_all_files_or_each(client: httpx.Client, collection: str) -> None:
    files = [("files", (f"{i}.wav", clip(0.5, seed=i))) for i in range(2)]
    response = client.post(f"{collection}/items", files=files, data={"metadata": '{"gender": "female"}'})
    assert response.status_code == 201
    each = {"items": [{"file": "1.wav", "id": "one", "metadata": {"age": 40}}]}
    response = client.post(f"{collection}/items", files=files, data={"metadata": json.dumps(each)})
    assert [(item["id"], item["created"]) for item in response.json()["items"]] == [("0.wav", False), ("one", True)]
    shown = {item["id"]: item for item in client.get(f"{collection}/items").json()["data"]}
    assert {name: item["metadata"] for name, item in shown.items()} == {
        "0.wav": {},
        "1.wav": {"gender": "female"},
        "one": {"age": 40},
    }
    assert shown["one"]["filename"] == "1.wav"


def test_a_file_may_be_called_other_than_it_was_uploaded(client: httpx.Client, collection: str) -> None:
    files = [("files", (f"{i}", clip(0.5, seed=i))) for i in range(4)]
    named = [
        {"file": "0", "id": "anna-1", "filename": "anna/one.wav"},
        {"file": "1", "id": "ben-1", "filename": "ben\\one.wav"},
        {"file": "2", "filename": 'a "b".wav'},
        {"file": "3", "filename": ""},
    ]
    response = client.post(f"{collection}/items", files=files, data={"metadata": json.dumps({"items": named})})
    assert [item["id"] for item in response.json()["items"]] == ["anna-1", "ben-1", 'a "b".wav', "3"]
    shown = {item["id"]: item["filename"] for item in client.get(f"{collection}/items").json()["data"]}
    assert shown == {"anna-1": "one.wav", "ben-1": "one.wav", 'a "b".wav': 'a "b".wav', "3": "3"}


def test_json_items_take_their_id_from_the_name_or_the_content(client: httpx.Client, collection: str) -> None:
    data = clip(0.5)
    items = [{"audio": data_uri(data), "filename": "a/b.wav"}, {"audio": data_uri(data)}]
    response = client.post(f"{collection}/items", json={"items": items})
    assert [item["id"] for item in response.json()["items"]] == ["b.wav", hashlib.sha256(data).hexdigest()[:16]]


def test_vectors_made_elsewhere_need_the_same_identity(client: httpx.Client, collection: str) -> None:
    embedded = client.post("/v1/embeddings", json={"input": data_uri(clip(1)), "modality": "audio"}).json()
    item = {"id": "v", "embedding": embedded["data"][0]["embedding"], "duration_s": 1.0}
    url = f"{collection}/items"
    whole = {**item, "identity": embedded["identity"]}
    refused(client.post(url, json={"items": [item]}), 422, "invalid-request", field="items[0]")
    refused(client.post(url, json={"items": [{**whole, "identity": "other"}]}), 409, "identity-mismatch")
    short = {**whole, "embedding": [1.0, 2.0]}
    refused(client.post(url, json={"items": [short]}), 422, "dimension-mismatch", field="items[0].embedding")
    zero = {**whole, "embedding": [0.0] * len(item["embedding"])}
    refused(client.post(url, json={"items": [zero]}), 422, "invalid-request", field="items[0].embedding")
    assert client.get(collection).json()["items"] == 0
    assert client.post(url, json={"items": [whole]}).status_code == 201
    query = [{"vector": item["embedding"]}]
    (hit,) = client.post(f"{collection}/search", json={"query": query}).json()["hits"]
    assert hit["score"] == pytest.approx(1, abs=1e-5)
    assert hit["audio_url"] is None
    refused(client.get(f"{url}/v/audio"), 404, "no-audio")


def test_pages_hold_every_item_once(client: httpx.Client, collection: str) -> None:
    for i in range(5):
        add(client, collection, f"item {i}", clip(0.3, seed=i), number=i)
    seen, cursor = [], None
    while True:
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = client.get(f"{collection}/items", params=params).json()
        seen += [item["id"] for item in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [f"item {i}" for i in range(5)]
    some = client.get(f"{collection}/items", params={"filter": '{"number": {"gte": 3}}'}).json()["data"]
    assert [item["metadata"]["number"] for item in some] == [3, 4]


def test_metadata_is_merged(client: httpx.Client, collection: str) -> None:
    add(client, collection, "a", clip(0.5), gender="female", draft=True)
    patch = {"metadata": {"draft": None, "mood": "calm"}}
    headers = {"Content-Type": "application/merge-patch+json"}
    response = client.patch(f"{collection}/items/a", content=json.dumps(patch), headers=headers)
    assert response.json()["metadata"] == {"gender": "female", "mood": "calm"}
    big = {"metadata": {"text": "x" * 8000}}
    assert client.patch(f"{collection}/items/a", json=big).status_code == 200
    again = {"metadata": {"other": "x" * 8000, "third": "x" * 1000}}
    refused(client.patch(f"{collection}/items/a", json=again), 422, "limit-exceeded", field="metadata")
    assert "other" not in client.get(f"{collection}/items/a").json()["metadata"]


def test_a_dropped_item_is_gone_everywhere(client: httpx.Client, collection: str) -> None:
    add(client, collection, "a", clip(0.5))
    assert client.delete(f"{collection}/items/a").status_code == 204
    for path in (f"{collection}/items/a", f"{collection}/items/a/audio"):
        refused(client.get(path), 404, "unknown-item", field="id")
    refused(client.delete(f"{collection}/items/a"), 404, "unknown-item")
    assert client.post(f"{collection}/search", json={"query": "anything"}).json()["hits"] == []


def test_audio_answers_ranges(client: httpx.Client, collection: str) -> None:
    data = clip(1)
    add(client, collection, "a", data)
    url = f"{collection}/items/a/audio"
    part = client.get(url, headers={"Range": "bytes=100-199"})
    assert part.status_code == 206
    assert part.content == data[100:200]
    assert part.headers["content-range"] == f"bytes 100-199/{len(data)}"
    assert "content-encoding" not in client.get(url).headers
    refused(client.get(url, headers={"Range": "bytes=99999999-"}), 416, "range-not-satisfiable")
    whole = client.get(url, headers={"Range": "seconds=1-2"})
    assert (whole.status_code, whole.content) == (200, data), "a unit that is unknown is no range"


def test_audio_that_the_caller_has_is_not_sent_again(client: httpx.Client, collection: str) -> None:
    data = clip(1)
    add(client, collection, "a", data)
    url = f"{collection}/items/a/audio"
    head = client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(data))
    etag = head.headers["etag"]
    for known in (etag, f'"another", W/{etag}', "*"):
        same = client.get(url, headers={"If-None-Match": known, "Range": "bytes=0-9"})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    assert client.get(url, headers={"If-None-Match": '"another"'}).content == data
    add(client, collection, "a", clip(1, seed=3))
    assert client.get(url, headers={"If-None-Match": etag}).status_code == 200


def test_ids_with_odd_characters_are_addressable(client: httpx.Client, collection: str) -> None:
    for name in ("ünï çødé ♪", "a%2Fb", "50%", "a?b#c&d", "..."):
        add(client, collection, name, clip(0.3))
        response = client.get(f"{collection}/items/{quote(name, safe='')}")
        assert response.json()["id"] == name
        assert client.get(response.json()["audio_url"]).status_code == 200


def test_audio_is_not_kept_when_told_so(serve: Serve, data_dir: object) -> None:
    with serve(data_dir=data_dir, keep_media=False) as own:
        own.client.put("/v1/collections/c")
        add(own.client, "/v1/collections/c", "a", clip(0.5))
        shown = own.client.get("/v1/collections/c/items/a").json()
        assert (shown["has_audio"], shown["audio_url"]) == (False, None)
        refused(own.client.get("/v1/collections/c/items/a/audio"), 404, "no-audio", field="id")


def test_a_restart_loses_nothing(serve: Serve, server: Server, data_dir: object) -> None:
    data = clip(1, seed=3)
    with serve(data_dir=data_dir) as own:
        own.client.put("/v1/collections/c", json={"description": "kept"})
        add(own.client, "/v1/collections/c", "a", data, gender="female")
        add(own.client, "/v1/collections/c", "b", clip(1, seed=4))
        before = own.client.post("/v1/collections/c/search", json={"query": "a calm voice"}).json()["hits"]
        info, item = own.client.get("/v1/collections/c").json(), own.client.get("/v1/collections/c/items/a").json()
    with serve(data_dir=data_dir) as own:
        after = own.client.post("/v1/collections/c/search", json={"query": "a calm voice"}).json()["hits"]
        assert [hit["id"] for hit in after] == [hit["id"] for hit in before]
        assert np.allclose([hit["score"] for hit in after], [hit["score"] for hit in before], atol=1e-6)
        assert own.client.get("/v1/collections/c").json() == info
        assert own.client.get("/v1/collections/c/items/a").json() == item
        assert own.client.get("/v1/collections/c/items/a/audio").content == data
