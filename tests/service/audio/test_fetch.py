"""Clips by URL: only from where the operator says, never from inside the network, whatever names and redirects say."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from service.audio.fetch import Fetcher, is_url
from service.audio.limits import AudioError
from service.settings import Settings
from tests.support.http import clip, data_uri, refused
from tests.support.serving import Serve, Server

LOCAL = ("127.0.0.0/8",)


@dataclass
class Origin:
    """A web server and what it was asked for."""

    url: str
    port: int
    asked: list[str]
    go: threading.Event


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    asked: list[str] = []
    go = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            redirects = {
                "/clips/moved.wav": "/clips/a.wav",
                "/clips/loop.wav": "/clips/loop.wav",
                "/clips/out.wav": "/secret/a.wav",
                "/clips/away.wav": f"http://localhost:{self.server.server_port}/clips/a.wav",
                "/clips/file.wav": "file:///etc/passwd",
            }
            if self.path in redirects:
                self.send_response(302)
                self.send_header("Location", redirects[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if self.path == "/clips/slow.wav":
                self.send_response(200)
                self.end_headers()
                self.drip(b"RIFF")
                return
            if self.path == "/clips/slow-head.wav":
                self.send_response(200)
                self.flush_headers()
                if self.drip(b"X-More: of the same\r\n"):
                    self.end_headers()
                return
            if self.path == "/clips/held/a.wav":
                go.wait(60)
            found = self.path.endswith("a.wav")
            body = b"x" * 300_000 if self.path == "/clips/big" else clip(1)
            self.send_response(200 if found or self.path == "/clips/big" else 404)
            if self.path == "/clips/zipped/a.wav":
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def drip(self, piece: bytes) -> bool:
            """Send it again and again, slowly; whether the caller stayed."""
            for _ in range(40):
                time.sleep(0.05)
                try:
                    self.wfile.write(piece)
                except OSError:
                    return False
            return True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Origin(f"http://127.0.0.1:{server.server_port}", server.server_port, asked, go)
    server.shutdown()


def fetcher(origin: Origin, *allow: str, private: tuple[str, ...] = LOCAL, timeout_s: float = 5.0) -> Fetcher:
    prefixes = allow or (f"{origin.url}/clips/",)
    return Fetcher(prefixes, private_networks=private, timeout_s=timeout_s, max_bytes=200_000)


def refusal(one: Fetcher, url: str) -> AudioError:
    with pytest.raises(AudioError) as caught:
        one.fetch(url)
    return caught.value


def test_an_allowed_clip_is_read_and_redirects_within_the_list_are_followed(origin: Origin) -> None:
    one = fetcher(origin)
    assert one.fetch(f"{origin.url}/clips/a.wav") == clip(1)
    assert one.fetch(f"{origin.url}/clips/moved.wav") == clip(1)


@pytest.mark.parametrize(
    "path",
    [
        "/secret/a.wav",
        "/clips/../secret/a.wav",
        "/clips/%2e%2e/secret/a.wav",
        "/clips/..%2fsecret/a.wav",
        "/clips//a.wav",
        "/clipsa.wav",
        "/clips/\\..\\a.wav",
        "/clips/out.wav",
        "/clips/away.wav",
        "/clips/file.wav",
        "/clips/loop.wav",
    ],
)
def test_nothing_outside_the_list_is_asked_for(origin: Origin, path: str) -> None:
    origin.asked.clear()
    assert refusal(fetcher(origin), origin.url + path).code == "url_refused"
    assert not any("secret" in asked or asked == "/clips/a.wav" for asked in origin.asked)


def test_other_schemes_hosts_ports_and_users_are_others(origin: Origin) -> None:
    one = fetcher(origin)
    for url in (
        f"https://127.0.0.1:{origin.port}/clips/a.wav",
        f"http://localhost:{origin.port}/clips/a.wav",
        "http://127.0.0.1:1/clips/a.wav",
        f"http://user@127.0.0.1:{origin.port}/clips/a.wav",
        f"http://127.0.0.1:{origin.port}@evil.example/clips/a.wav",
        "http://127.0.0.1:notaport/clips/a.wav",
        f"{origin.url}/clips/{'a' * 3000}",
        f"{origin.url}/clips/ä.wav",
    ):
        assert refusal(one, url).code == "url_refused", url


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "0.0.0.0"])
def test_addresses_that_are_not_public_are_never_connected(origin: Origin, host: str) -> None:
    origin.asked.clear()
    one = fetcher(origin, f"http://{host}:{origin.port}/clips/", private=())
    assert refusal(one, f"http://{host}:{origin.port}/clips/a.wav").code in ("url_refused", "url_failed")
    assert not origin.asked


def test_a_name_with_one_private_address_is_refused_whole(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is resolved once: what was checked is what is connected."""
    answers = [
        [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in addresses]
        for addresses in (["93.184.216.34", "10.0.0.1"], ["::ffff:10.0.0.1"], ["64:ff9b::a00:1"], ["169.254.169.254"])
    ]
    lookups: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: str, *rest: object, **options: object) -> object:
        if host != "media.example.com":
            return real(host, *rest, **options)  # type: ignore[arg-type]
        lookups.append(host)
        return answers[len(lookups) - 1]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    one = fetcher(origin, "http://media.example.com/")
    for _ in answers:
        assert refusal(one, "http://media.example.com/a.wav").code == "url_refused"
    assert len(lookups) == len(answers)


def test_what_the_origin_does_wrong_is_said(origin: Origin) -> None:
    one = fetcher(origin)
    assert "404" in refusal(one, f"{origin.url}/clips/absent").detail
    assert refusal(one, f"{origin.url}/clips/zipped/a.wav").code == "url_failed"
    big = refusal(one, f"{origin.url}/clips/big")
    assert (big.code, big.limit) == ("too_large", 200_000)
    for name in ("slow.wav", "slow-head.wav"):
        slow = refusal(fetcher(origin, timeout_s=0.3), f"{origin.url}/clips/{name}")
        assert (slow.code, slow.limit) == ("url_failed", 0.3), "each byte is in time, all of them are not"
    assert refusal(fetcher(origin, "http://127.0.0.1:1/"), "http://127.0.0.1:1/a.wav").code == "url_failed"


def test_urls_are_off_unless_listed(origin: Origin, server: Server) -> None:
    origin.asked.clear()
    body = {"input": f"{origin.url}/clips/a.wav", "modality": "audio"}
    problem = refused(server.client.post("/v1/embeddings", json=body), 422, "invalid-audio", field="input[0]")
    assert problem["code"] == "url_refused"
    assert "fetches no URLs" in problem["detail"]
    assert not origin.asked
    assert is_url("HTTPS://x") and not is_url("data:audio/wav;base64,")


def test_a_listed_url_is_a_clip_like_any_other(origin: Origin, serve: Serve, tmp_path_factory: object) -> None:
    folder = tmp_path_factory.mktemp("urls")  # type: ignore[attr-defined]
    allow, private = [f"{origin.url}/clips/"], list(LOCAL)
    with serve(data_dir=folder, url_allow=allow, url_private_networks=private) as own:
        body = {"input": f"{origin.url}/clips/a.wav", "modality": "audio"}
        assert own.client.post("/v1/embeddings", json=body).status_code == 200
        body["input"] = f"{origin.url}/secret/a.wav"
        refused(own.client.post("/v1/embeddings", json=body), 422, "invalid-audio", field="input[0]")


def test_clips_at_hand_do_not_wait_for_those_that_are_fetched(origin: Origin, serve: Serve, tmp_path: Path) -> None:
    allow = {"url_allow": [f"{origin.url}/clips/"], "url_private_networks": list(LOCAL), "url_timeout_s": 60}
    with serve(data_dir=tmp_path / "data", decode_workers=1, **allow) as own, ThreadPoolExecutor(2) as pool:
        held = {"input": f"{origin.url}/clips/held/a.wav", "modality": "audio"}
        calls = [pool.submit(own.client.post, "/v1/embeddings", json=held) for _ in range(2)]
        while origin.asked.count("/clips/held/a.wav") < 2:
            time.sleep(0.01)
        here = {"input": data_uri(clip(1, seed=1)), "modality": "audio"}
        assert own.client.post("/v1/embeddings", json=here).status_code == 200
        assert not any(call.done() for call in calls)
        origin.go.set()
        assert [call.result(60).status_code for call in calls] == [200, 200]


def test_settings_name_what_is_no_address() -> None:
    for wrong in ("media.example.com", "ftp://media.example.com/", "https://media.example.com/?a=1"):
        with pytest.raises(ValueError, match="url_allow"):
            Settings(url_allow=[wrong])
    with pytest.raises(ValueError, match="url_private_networks"):
        Settings(url_private_networks=["10.0.0.300/8"])
