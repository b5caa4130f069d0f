"""Behind a path prefix, and what monitors send: every address in an answer leads back through the proxy."""

import re
from pathlib import Path

import httpx
import pytest

from tests.support.audio_files import encode, voice
from tests.support.serving import Serve, Server

PREFIX = {"X-Forwarded-Prefix": "/clsp"}


def added(client: httpx.Client, base: str = "", headers: dict[str, str] | None = None) -> str:
    client.put(f"{base}/v1/collections/prefixed", headers=headers)
    files = {"files": ("a.wav", encode(voice(1.0), 16_000), "audio/wav")}
    path = f"{base}/v1/collections/prefixed/items"
    assert client.post(path, files=files, headers=headers).status_code == 201
    return str(client.get(f"{path}/a.wav", headers=headers).json()["audio_url"])


def test_a_proxy_that_takes_the_prefix_off(server: Server) -> None:
    client = server.client
    assert added(client, headers=PREFIX) == "/clsp/v1/collections/prefixed/items/a.wav/audio"
    assert added(client) == "/v1/collections/prefixed/items/a.wav/audio"
    hit = client.post("/v1/collections/prefixed/search", json={"query": "a man"}, headers=PREFIX).json()["hits"][0]
    assert hit["audio_url"].startswith("/clsp/v1/")
    moved = client.get("/docs/", headers=PREFIX, follow_redirects=False)
    assert (moved.status_code, moved.headers["location"]) == (307, "/clsp/docs")
    for wrong in ("//evil.example", "https://evil.example", "/a/../b", "/" + "x" * 500, "/<b>"):
        assert added(client, headers={"X-Forwarded-Prefix": wrong}).startswith("/v1/"), wrong


def test_a_proxy_that_leaves_the_prefix_on(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir, root_path="/clsp") as server:
        client = server.client
        audio = added(client, base="/clsp")
        assert audio == "/clsp/v1/collections/prefixed/items/a.wav/audio"
        assert client.get(audio).status_code == 200
        assert client.get("/clsp", follow_redirects=False).headers["location"] == "/clsp/"
        assert client.get("/clsp/").status_code == client.get("/healthz").status_code == 200


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_the_page_names_no_address_that_a_prefix_breaks(client: httpx.Client, page: str) -> None:
    text = client.get(page).text
    assert not re.findall(r'(?:href|src)="/', text)
    for script in re.findall(r'src="([^"]+\.js)"', text):
        body = client.get(f"/{script}").text
        assert not re.findall(r'from "/', body)


@pytest.mark.parametrize("path", ["/", "/docs", "/healthz", "/readyz", "/web/app.js"])
def test_monitors_may_ask_for_the_head_alone(client: httpx.Client, path: str) -> None:
    answer = client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_the_pages_files_use_up_no_share(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir, key_requests_per_s=1.0, key_burst=2) as server:
        assert {server.client.get(path).status_code for path in ("/", "/docs", "/web/app.js") * 10} == {200}
        answers = [server.client.get("/v1/models").status_code for _ in range(4)]
        assert answers[:2] == [200, 200] and 429 in answers
