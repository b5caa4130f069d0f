"""Bad input is a clear 4xx that names the field and the limit, and leaves the catalog as it was."""

import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile as sf

from service.core.problems import ProblemError, problem_response
from service.schemas.common import RequestModel
from tests.support.audio_files import encode, voice
from tests.support.http import add, clip, data_uri, refused
from tests.support.serving import Serve


def silence(hours: float) -> bytes:
    """Small as a file, long when decoded."""
    buffer = io.BytesIO()
    with sf.SoundFile(buffer, "w", 4000, 1, subtype="PCM_16", format="FLAC") as file:
        for _ in range(round(hours * 60)):
            file.write(np.zeros(4000 * 60, np.int16))
    return buffer.getvalue()


def with_nan() -> bytes:
    samples = voice(1)
    samples[8000] = np.nan
    return encode(samples, 16_000, "wav-float")


BAD_AUDIO: dict[str, tuple[Any, str, Any]] = {
    "an empty file": (lambda: b"", "empty", None),
    "a text renamed .wav": (lambda: b"this is not audio, whatever its name says\n" * 20, "unsupported", None),
    "a truncated FLAC": (lambda: clip(3, name="flac-16")[:-4000], "truncated", None),
    "NaN samples": (with_nan, "not_finite", None),
    "0.1 s": (lambda: clip(0.1), "too_short", 0.25),
    "3 h of silence": (lambda: silence(3), "too_long", 3600),
    "10 s of silence": (lambda: encode(np.zeros((160_000, 1)), 16_000), "silent", -80),
    "12 channels": (lambda: encode(voice(1, channels=12), 16_000), "too_many_channels", 8),
    "2 kHz": (lambda: encode(voice(1, 2000), 2000), "sample_rate", 4000),
}


BIG = {"a": "b" * 17_000}


@pytest.fixture(scope="module")
def shelf(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, str]]:
    """A collection with two clips in it."""
    with serve(data_dir=tmp_path_factory.mktemp("shelf")) as own:
        path = "/v1/collections/shelf"
        own.client.put(path)
        for i in range(2):
            add(own.client, path, f"good{i}", clip(1, seed=i), gender="female")
        yield own.client, path


def catalog(client: httpx.Client, path: str) -> list[Any]:
    """Everything that can be seen of a collection."""
    search = client.post(f"{path}/search", json={"query": "a calm voice", "filter": {"gender": "female"}}).json()
    return [client.get(path).json(), client.get(f"{path}/items").json(), search["hits"]]


@pytest.mark.parametrize("name", BAD_AUDIO)
def test_bad_audio_changes_nothing(shelf: tuple[httpx.Client, str], name: str) -> None:
    client, path = shelf
    make, code, limit = BAD_AUDIO[name]
    data, before = make(), catalog(client, path)
    files = [("files", ("fine.wav", clip(1))), ("files", ("good1.wav", data))]
    bodies = {
        "files[1]": {"files": files},
        "items[1].audio": {"json": {"items": [{"audio": data_uri(clip(1))}, {"id": "good1", "audio": data_uri(data)}]}},
    }
    for field, body in bodies.items():
        problem = refused(client.post(f"{path}/items", **body), 422, "invalid-audio", field=field)
        assert problem["code"] == code
        assert problem.get("limit") == limit
        assert problem["detail"].startswith(field)
        if limit is not None:
            assert f"{abs(limit):g}" in problem["detail"]
    assert catalog(client, path) == before


@pytest.mark.parametrize(
    ("body", "status", "slug", "field"),
    [
        ({"content": b""}, 400, "malformed-body", "body"),
        ({"content": b"{}"}, 415, "unsupported-media-type", "Content-Type"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "malformed-body", "body"),
        ({"content": b'{"a": "\xff"}', "headers": {"Content-Type": "application/json"}}, 400, "malformed-body", "body"),
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "unsupported-media-type", "Content-Type"),
        ({"data": {"metadata": "{}"}}, 415, "unsupported-media-type", "Content-Type"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "malformed-body", "body"),
        ({"files": [("clips", ("a.wav", b"x"))]}, 422, "invalid-request", "clips"),
        ({"files": [("metadata", (None, "{}"))]}, 422, "invalid-request", "files"),
        ({"json": {"items": []}}, 422, "invalid-request", "items"),
        ({"json": {"items": [{"id": "a"}]}}, 422, "invalid-request", "items[0]"),
        ({"json": {"items": [{"id": "a/b", "audio": "x"}]}}, 422, "invalid-request", "items[0].id"),
        ({"json": {"items": [{"id": "..", "audio": "x"}]}}, 422, "invalid-request", "items[0].id"),
        ({"json": {"items": [{"id": "a", "audio": "x", "meta": {}}]}}, 422, "invalid-request", "items[0].meta"),
        ({"json": {"items": [{"audio": "x", "metadata": {"a": {}}}]}}, 422, "invalid-request", "items[0].metadata.a"),
        (
            {"json": {"items": [{"audio": "x", "metadata": {"a": "b" * 17_000}}]}},
            422,
            "limit-exceeded",
            "items[0].metadata",
        ),
        ({"json": {"items": [{"id": "a", "audio": "x"}] * 2}}, 422, "invalid-request", "items[1].id"),
        ({"json": {"items": [{"audio": "x"}] * 65}}, 413, "too-many-parts", "items"),
        ({"json": {"items": [{"audio": "https://example.com/a.wav"}]}}, 422, "invalid-audio", "items[0].audio"),
        ({"json": {"items": [{"audio": "data:audio/wav;base64,???"}]}}, 422, "invalid-audio", "items[0].audio"),
        ({"files": [("files", ("a.wav", b"x"))] * 65}, 413, "too-many-parts", "files"),
        ({"files": [("files", ("a.wav", b"x"))] * 2}, 422, "invalid-request", "files[1].id"),
    ],
)
def test_bad_requests_change_nothing(
    shelf: tuple[httpx.Client, str], body: dict[str, Any], status: int, slug: str, field: str | None
) -> None:
    client, path = shelf
    before = catalog(client, path)
    refused(client.post(f"{path}/items", **body), status, slug, field=field)
    assert catalog(client, path) == before


DEEP = "metadata.items[0].metadata.b"


@pytest.mark.parametrize(
    ("metadata", "status", "slug", "field"),
    [
        ("{", 400, "malformed-body", "metadata"),
        ("[]", 422, "invalid-request", "metadata"),
        ('{"a": NaN}', 422, "invalid-request", "metadata.a"),
        ('{"a": {"b": 1}}', 422, "invalid-request", "metadata.a"),
        ('{"not": 1}', 422, "invalid-request", "metadata.not"),
        ('{"items": [{"file": "other.wav"}]}', 422, "invalid-request", "metadata.items[0].file"),
        ('{"items": [{"file": "a.wav", "id": "x/y"}]}', 422, "invalid-request", "metadata.items[0].id"),
        (
            '{"items": [{"file": "a.wav", "metadata": {"b": {}}}]}',
            422,
            "invalid-request",
            "metadata.items[0].metadata.b",
        ),
    ],
)
def test_bad_form_metadata_is_named(
    shelf: tuple[httpx.Client, str], metadata: str, status: int, slug: str, field: str
) -> None:
    client, path = shelf
    response = client.post(f"{path}/items", files=[("files", ("a.wav", clip(0.5)))], data={"metadata": metadata})
    refused(response, status, slug, field=field)


WRONG: dict[str, Any] = {"text": 1}
UNKNOWN = {f"x{i}": 1 for i in range(100)}


@pytest.mark.parametrize(
    ("address", "body", "field"),
    [
        ("/v1/embeddings", {"input": ["a", 1, 1, 1]}, "input[1]"),
        ("search", {"query": [WRONG, WRONG]}, "query[0].text"),
        ("search", {"query": [{"vector": ["a", "b"]}]}, "query[0].vector[0]"),
        ("search", {"query": "a", **UNKNOWN}, None),
        ("items", {"items": [{"audio": 1}, {"audio": 1}]}, "items[0].audio"),
        ("items", {"items": [UNKNOWN]}, "items[0]"),
        ("/v1/classify", {"inputs": [1, 1], "preset": "age"}, "inputs[0]"),
        ("/v1/classify", {"audio": "x", "labels": {"a": [1, 1], "b": 1, "c": 1}}, "labels.a[0]"),
        ("/v1/score", {"pairs": [{"audio": 1, "caption": "x"}] * 2}, "pairs[0].audio"),
    ],
)
def test_of_many_things_wrong_the_first_is_told(
    shelf: tuple[httpx.Client, str], address: str, body: dict[str, Any], field: str | None
) -> None:
    """Each of them costs hundreds of times what it took to send."""
    client, path = shelf
    where = address if address.startswith("/") else f"{path}/{address}"
    problem = refused(client.post(where, json=body), 422, "invalid-request", field=field)
    assert "errors" not in problem, problem


def schemas_within(schema: Any) -> Iterator[dict[str, Any]]:
    """A pydantic-core schema and all below it."""
    if isinstance(schema, dict):
        yield schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from schemas_within(part)


def test_every_list_of_a_request_ends_with_its_first_wrong_entry() -> None:
    models, lists = [RequestModel], 0
    while models:
        model = models.pop()
        models += model.__subclasses__()
        for schema in schemas_within(model.__pydantic_core_schema__):
            if schema.get("type") in ("list", "set", "frozenset", "tuple"):
                lists += 1
                assert schema.get("fail_fast"), (model.__name__, schema)
    assert lists >= 8


def test_unknown_collections_are_404_everywhere(client: httpx.Client) -> None:
    path = "/v1/collections/nowhere"
    answers = [
        client.get(path),
        client.delete(path),
        client.get(f"{path}/items"),
        client.get(f"{path}/items/a"),
        client.get(f"{path}/items/a/audio"),
        client.patch(f"{path}/items/a", json={"metadata": {}}),
        client.delete(f"{path}/items/a"),
        client.post(f"{path}/items", json={"items": [{"audio": data_uri(clip(0.5))}]}),
        client.post(f"{path}/search", json={"query": "a"}),
    ]
    for answer in answers:
        refused(answer, 404, "unknown-collection", field="collection")


def test_bad_parameters_are_named(shelf: tuple[httpx.Client, str]) -> None:
    client, path = shelf
    cases = [
        ({"limit": 0}, "invalid-request", "limit"),
        ({"limit": "many"}, "invalid-request", "limit"),
        ({"limit": 1001}, "limit-exceeded", "limit"),
        ({"cursor": "made up"}, "invalid-cursor", "cursor"),
        ({"filter": "[]"}, "invalid-request", "filter"),
        ({"filter": '{"x": 1}'}, "unknown-field", "filter.x"),
        ({"filter": '{"all": [' + ", ".join(["{}"] * 1200) + "]}"}, "invalid-filter", "filter.all[256]"),
        ({"filter": '{"not": ' * 100 + "{}" + "}" * 100}, "invalid-filter", "filter" + ".not" * 16),
    ]
    for params, slug, field in cases:
        refused(client.get(f"{path}/items", params=params), 422, slug, field=field)
    refused(client.get(f"{path}/items", params={"filter": "{"}), 400, "malformed-body", field="filter")
    refused(client.put("/v1/collections/-bad"), 422, "invalid-request", field="collection")
    refused(client.put("/v1/collections/" + "x" * 65), 422, "invalid-request", field="collection")


def test_the_frameworks_refusals_are_problems(client: httpx.Client) -> None:
    refused(client.get("/nowhere"), 404, "not-found")
    refused(client.get("/v1/collections/a/b/c/d"), 404, "not-found")
    refused(client.post("/v1/models"), 405, "method-not-allowed")
    refused(client.get("/v1/embeddings"), 405, "method-not-allowed")
    gzipped = client.post("/v1/embeddings", content=b"x", headers={"Content-Encoding": "gzip"})
    refused(gzipped, 415, "unsupported-media-type", field="Content-Encoding")


def multipart(*parts: bytes, end: bytes = b"--b--\r\n", charset: str = "") -> dict[str, Any]:
    """A form as bytes, to be wrong in ways that clients are not."""
    content = b"".join(b"--b\r\nContent-Disposition: form-data; name=" + part + b"\r\n" for part in parts) + end
    return {"content": content, "headers": {"Content-Type": f"multipart/form-data; boundary=b{charset}"}}


FILE = b'"files"; filename="%s"\r\n\r\n%s'


@pytest.mark.parametrize(
    "parts",
    [
        [FILE % (b"cut1.wav", clip(1)), FILE % (b"cut2.wav", clip(1)[:500])],
        [FILE % (b"cut1.wav", clip(1)), b'"metadata"\r\n\r\n{"gender": "female"}'],
        [FILE % (b"cut1.wav", clip(40))],
    ],
)
@pytest.mark.parametrize("end", [b"", b"--b-", b"--b\r\n"])
def test_a_form_that_is_cut_off_stores_nothing(shelf: tuple[httpx.Client, str], parts: list[bytes], end: bytes) -> None:
    client, path = shelf
    before = catalog(client, path)
    problem = refused(client.post(f"{path}/items", **multipart(*parts, end=end)), 400, "malformed-body", field="body")
    assert "closing boundary" in problem["detail"]
    assert catalog(client, path) == before


@pytest.mark.parametrize("end", [b"--b--", b"--b--\r\n", b"--b--\r\nwhat follows is no part"])
def test_a_form_ends_with_its_closing_boundary(client: httpx.Client, collection: str, end: bytes) -> None:
    answer = client.post(f"{collection}/items", **multipart(FILE % (b"whole.wav", clip(1)), end=end))
    assert [item["id"] for item in answer.json()["items"]] == ["whole.wav"], answer.text


@pytest.mark.parametrize("charset", ["undefined", "unicode_escape", "utf-16", "latin-1", "no-such-thing"])
def test_a_form_is_utf8(shelf: tuple[httpx.Client, str], charset: str) -> None:
    client, path = shelf
    body = multipart(b'"\\ud800"\r\n\r\nx', charset=f"; charset={charset}")
    problem = refused(client.post(f"{path}/items", **body), 415, "unsupported-media-type", field="Content-Type")
    assert problem["limit"] == "utf-8"
    body = multipart(b'"\\ud800"\r\n\r\nx', charset='; charset="UTF-8"')
    refused(client.post(f"{path}/items", **body), 422, "invalid-request", field="\\ud800")


def test_a_problem_can_be_said_whatever_it_quotes() -> None:
    answer = problem_response(ProblemError("invalid-request", "preset: '\ud800' is not one", field="\udfff"), "id")
    assert json.loads(bytes(answer.body).decode())["detail"] == "preset: '?' is not one"


def test_an_upload_that_finds_no_room_can_come_again(
    shelf: tuple[httpx.Client, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, path = shelf
    before = catalog(client, path)
    upload = [("files", ("new.wav", clip(40)))]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    answer = client.post(f"{path}/items", files=upload)
    refused(answer, 503, "storage-failed")
    assert answer.headers["retry-after"] == "1"
    assert str(tmp_path) not in answer.text
    assert catalog(client, path) == before


def test_large_bodies_are_refused_declared_or_not(serve: Serve, data_dir: object) -> None:
    with serve(data_dir=data_dir, max_body_bytes=100_000, max_audio_bytes=50_000) as own:
        path = "/v1/collections/c"
        own.client.put(path)
        headers = {"Content-Type": "application/json"}
        text = json.dumps({"input": ["x" * 1000] * 200}).encode()
        problem = refused(own.client.post("/v1/embeddings", content=text, headers=headers), 413, "body-too-large")
        assert problem["limit"] == 100_000
        streamed = own.client.post(
            "/v1/embeddings", content=(text[i : i + 999] for i in range(0, len(text), 999)), headers=headers
        )
        refused(streamed, 413, "body-too-large", field="body")
        chunks = iter(
            [b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n', *[b"x" * 1000] * 200]
        )
        form = {"Content-Type": "multipart/form-data; boundary=b"}
        refused(own.client.post(f"{path}/items", content=chunks, headers=form), 413, "body-too-large", field="body")
        large = clip(2)
        for body in ({"files": [("files", ("a.wav", large))]}, {"json": {"items": [{"audio": data_uri(large)}]}}):
            problem = refused(own.client.post(f"{path}/items", **body), 413, "audio-too-large")
            assert problem["limit"] == 50_000
        assert own.client.get(path).json()["items"] == 0
        assert own.client.get("/readyz").status_code == 200


def test_json_of_too_many_values_is_refused_before_it_is_read(serve: Serve, data_dir: object) -> None:
    with serve(data_dir=data_dir, max_json_values=1000) as own:
        path = "/v1/collections/c"
        own.client.put(path)
        for values in ([[]] * 600, [{}] * 600, [1] * 1100, [[[1, 2]]] * 300):
            body = {"query": "x", "filter": {"a": values}}
            problem = refused(own.client.post(f"{path}/search", json=body), 413, "body-too-large", field="body")
            assert problem["limit"] == 1000
        long = {"items": [{"id": f"a{i}", "audio": data_uri(clip(1, seed=i)), "metadata": {"n": i}} for i in range(20)]}
        assert own.client.post(f"{path}/items", json=long).status_code == 201
        # What is not JSON at all is refused for its size alone, and is not read either.
        text = {"Content-Type": "application/json"}
        answer = own.client.post("/v1/embeddings", content=b"," * 600_000, headers=text)
        refused(answer, 413, "body-too-large", field="body")


def test_all_clips_of_a_request_share_a_limit(serve: Serve, data_dir: object) -> None:
    with serve(data_dir=data_dir, max_request_audio_s=3.0, max_audio_s=2.0) as own:
        uris = [data_uri(clip(1, seed=i)) for i in range(4)]
        body = {"input": uris[:3], "modality": "audio"}
        assert own.client.post("/v1/embeddings", json=body).status_code == 200
        problem = refused(own.client.post("/v1/embeddings", json={**body, "input": uris}), 422, "limit-exceeded")
        assert problem["limit"] == 3.0
        assert problem["field"].startswith("input[")
