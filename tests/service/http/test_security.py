"""Keys and scopes, calls from other sites, response headers and request ids."""

import hashlib
from collections.abc import Iterator

import httpx
import pytest

from service.http.auth import find_key
from service.settings import ApiKey
from tests.support.http import clip, data_uri, refused
from tests.support.serving import Serve


def entry(name: str, scopes: str, secret: str) -> ApiKey:
    return ApiKey.model_validate(f"{name}:{scopes}:{hashlib.sha256(secret.encode()).hexdigest()}")


@pytest.fixture(scope="module")
def locked(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service with a key that reads, one that writes, and one that does both."""
    keys = [entry("r", "read", "reads"), entry("w", "write", "writes"), entry("rw", "read+write", "both")]
    with serve(data_dir=tmp_path_factory.mktemp("locked"), api_keys=keys, cors_origins=["https://ui.example"]) as own:
        assert own.client.put("/v1/collections/c", headers=bearer("both")).status_code == 201
        yield own.client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def calls(client: httpx.Client, headers: dict[str, str]) -> dict[str, list[httpx.Response]]:
    """Every call by the scope it needs."""
    path, audio = "/v1/collections/c", data_uri(clip(0.3))
    add = client.post(f"{path}/items", json={"items": [{"id": "a", "audio": audio}]}, headers=headers)
    return {
        "write": [
            client.put(path, headers=headers),
            add,
            client.patch(f"{path}/items/a", json={"metadata": {}}, headers=headers),
            client.delete(f"{path}/items/a", headers=headers),
        ],
        "read": [
            client.get("/v1/collections", headers=headers),
            client.get(path, headers=headers),
            client.get(f"{path}/items", headers=headers),
            client.get(f"{path}/items/a", headers=headers),
            client.get(f"{path}/items/a/audio", headers=headers),
            client.post(f"{path}/search", json={"query": "x"}, headers=headers),
            client.post("/v1/embeddings", json={"input": "x"}, headers=headers),
            client.post("/v1/classify", json={"audio": audio, "preset": "gender"}, headers=headers),
            client.post("/v1/score", json={"pairs": [{"audio": audio, "caption": "x"}]}, headers=headers),
            client.get("/v1/models", headers=headers),
            client.get("/v1/models/clsp-small", headers=headers),
            client.get("/metrics", headers=headers),
        ],
    }


@pytest.mark.parametrize(
    ("secret", "allowed"), [("reads", {"read"}), ("writes", {"write"}), ("both", {"read", "write"})]
)
def test_scopes(locked: httpx.Client, secret: str, allowed: set[str]) -> None:
    for scope, answers in calls(locked, bearer(secret)).items():
        for answer in answers:
            if scope in allowed:
                assert answer.status_code < 300 or answer.status_code == 404, (answer.request.url, answer.text)
            else:
                problem = refused(answer, 403, "forbidden", field="Authorization")
                assert problem["limit"] == scope


@pytest.mark.parametrize(
    "headers", [{}, bearer("wrong"), {"Authorization": "Bearer"}, {"Authorization": "Basic cmVhZHM6"}, bearer("ré")]
)
def test_without_a_valid_key_nothing_is_done(locked: httpx.Client, headers: dict[str, str]) -> None:
    for answers in calls(locked, {name: value.encode() for name, value in headers.items()}).values():
        for answer in answers:
            refused(answer, 401, "unauthorized", field="Authorization")
            assert answer.headers["www-authenticate"] == "Bearer"


def test_health_and_pages_need_no_key(locked: httpx.Client) -> None:
    for path in ("/healthz", "/readyz", "/", "/docs", "/openapi.json", "/web/app.js"):
        assert locked.get(path).status_code == 200, path


def test_the_key_is_checked_before_the_body(locked: httpx.Client) -> None:
    refused(locked.post("/v1/embeddings", content=b"{", headers={"Content-Type": "text/x"}), 401, "unauthorized")


def test_finding_a_key_looks_at_all_of_them() -> None:
    keys = [entry("one", "read", "first"), entry("two", "write", "second")]
    assert find_key(keys, "first") is keys[0]
    assert find_key(keys, "second") is keys[1]
    assert find_key(keys, keys[0].sha256) is None
    assert find_key([], "first") is None


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://["])
def test_other_sites_cannot_write(client: httpx.Client, origin: str) -> None:
    answer = client.put("/v1/collections/csrf", headers={"Origin": origin})
    refused(answer, 403, "cross-origin", field="Origin")
    refused(client.get("/v1/collections/csrf"), 404, "unknown-collection")
    assert "access-control-allow-origin" not in client.get("/healthz", headers={"Origin": origin}).headers


def test_the_services_own_page_can_call(client: httpx.Client) -> None:
    origin = str(client.base_url).rstrip("/")
    assert client.post("/v1/embeddings", json={"input": "x"}, headers={"Origin": origin}).status_code == 200


def test_allowed_origins_get_cors(locked: httpx.Client) -> None:
    headers = {"Origin": "https://ui.example", **bearer("both")}
    answer = locked.post("/v1/embeddings", json={"input": "x"}, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://ui.example"
    preflight = {"Origin": "https://ui.example", "Access-Control-Request-Method": "PUT"}
    assert locked.options("/v1/collections/c", headers=preflight).status_code == 200
    preflight["Origin"] = "https://evil.example"
    assert "access-control-allow-origin" not in locked.options("/v1/collections/c", headers=preflight).headers


def test_security_headers_are_on_every_answer(client: httpx.Client) -> None:
    for path in ("/", "/docs", "/v1/models", "/nowhere", "/web/style.css"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
    assert "script-src 'self'" in client.get("/").headers["content-security-policy"]


def test_request_ids_are_kept_or_made(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "mine-1.2_3"}).headers["x-request-id"] == "mine-1.2_3"
    made = [client.get("/nowhere").json()["request_id"] for _ in range(2)]
    assert made[0] != made[1]
    for bad in ("with space", "x" * 129, "a<b>"):
        answer = client.get("/nowhere", headers={"X-Request-ID": bad})
        assert answer.headers["x-request-id"] != bad
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_answers_are_compressed_but_audio_is_not(client: httpx.Client) -> None:
    assert client.get("/openapi.json").headers["content-encoding"] == "gzip"
    for accepted, compressed in (
        ("identity", False),
        ("gzip;q=0", False),
        ("br, gzip ; q=0.000, identity", False),
        ("not-gzip", False),
        ("gzip;q=0.5", True),
        ("deflate, gzip", True),
        ("gzip;q=1.0, identity;q=0", True),
        ("br;q=0, gzip;q=0.01", True),
    ):
        headers = client.get("/openapi.json", headers={"Accept-Encoding": accepted}).headers
        assert ("content-encoding" in headers) == compressed, accepted
