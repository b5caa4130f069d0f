"""The client against a real service, and against a server that is full, broken or not ours at all."""

from __future__ import annotations

import asyncio
import http.server
import itertools
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import clsp_client
from clsp_client import (
    AsyncClient,
    Client,
    InvalidKeyError,
    InvalidRequestError,
    InvalidUrlError,
    ProblemError,
    RetryPolicy,
    UnreachableError,
)
from clsp_client.calls import NewClip
from tests.support.paths import LIBRARY

LOW, HIGH = LIBRARY / "man-us-low.ogg", LIBRARY / "woman-us-high.ogg"


@pytest.fixture
def clsp(server: Any) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def test_a_library_from_beginning_to_end(clsp: Client, tmp_path: Path) -> None:
    name = "client-library"
    made = clsp.create_collection(name, description="of the client's tests")
    assert made["description"] == "of the client's tests"
    added = clsp.add_items(
        name, [NewClip(LOW, "low", {"pitch": "low"}), NewClip(HIGH.read_bytes(), "high", filename="high.ogg")]
    )
    assert [item["created"] for item in added["items"]] == [True, True]
    assert [item["id"] for item in clsp.items(name, page=1)] == ["high", "low"]
    assert clsp.item(name, "high")["filename"] == "high.ogg"
    assert clsp.patch_item(name, "high", {"pitch": "high"})["metadata"] == {"pitch": "high"}
    assert clsp.item_audio(name, "low") == LOW.read_bytes()
    hits = clsp.search(name, [{"item_id": "low"}, {"text": "a high voice", "weight": 0.1}], filter={"pitch": "high"})
    assert [hit["id"] for hit in hits["hits"]] == ["high"]
    assert name in [one["name"] for one in clsp.collections()]
    clsp.delete_item(name, "low")
    with pytest.raises(ProblemError) as gone:
        clsp.item(name, "low")
    assert (gone.value.status, gone.value.slug) == (404, "unknown-item")
    assert gone.value.request_id
    clsp.delete_collection(name)
    with pytest.raises(ProblemError, match="Collection not found"):
        clsp.collection(name)


def test_clips_may_have_any_name_and_the_same(clsp: Client, tmp_path: Path) -> None:
    name = "client-names"
    clsp.create_collection(name)
    clips = []
    for id, place in (("anna-1", "anna"), ("ben-1", "ben")):
        (tmp_path / place).mkdir()
        shutil.copy(LOW, tmp_path / place / "one.ogg")
        clips.append(NewClip(tmp_path / place / "one.ogg", id))
    odd = [
        NewClip(LOW.read_bytes(), f"odd-{i}", filename=odd)
        for i, odd in enumerate(('a "b".ogg', "a\nb.ogg", "%22.ogg"))
    ]
    clsp.add_items(name, [*clips, *odd, NewClip(HIGH), NewClip(LOW.read_bytes())])
    assert {item["id"]: item["filename"] for item in clsp.items(name)} == {
        "anna-1": "one.ogg",
        "ben-1": "one.ogg",
        "odd-0": 'a "b".ogg',
        "odd-1": "a\nb.ogg",
        "odd-2": "%22.ogg",
        HIGH.name: HIGH.name,
        "clip-6": "clip-6",
    }


def test_judging(clsp: Client) -> None:
    model = clsp.models()[0]
    assert clsp.ready() == {"status": "ok"}
    label = clsp.classify([LOW, HIGH.read_bytes()], labels={"low": "a deep voice", "high": "a high voice"})
    assert [one["label"] for one in label["results"]] == ["low", "high"]
    scores = clsp.score([(LOW, "a deep voice"), (LOW, "a high voice")], attributes=True)
    assert scores["results"][0]["cosine"] > scores["results"][1]["cosine"]
    assert scores["identity"] == model["identity"]
    attributes = scores["results"][1]["attributes"]
    assert attributes is not None
    assert attributes[0]["heard"] == "low"
    assert len(clsp.embed_texts(["a", "b"])["data"]) == 2
    assert len(clsp.embed_clips([LOW])["data"][0]["embedding"]) == model["embedding_dim"]


def test_the_async_client_answers_the_same(server: Any) -> None:
    async def work() -> tuple[list[str], float]:
        async with AsyncClient(server.url) as client:
            await client.create_collection("async-library")
            await client.add_items("async-library", [NewClip(LOW, "low"), NewClip(HIGH, "high")])
            names = [item["id"] async for item in client.items("async-library", page=1)]
            both = await asyncio.gather(client.score([(LOW, "a")]), client.score([(LOW, "a")]))
            await client.delete_collection("async-library")
            return names, abs(both[0]["results"][0]["cosine"] - both[1]["results"][0]["cosine"])

    names, difference = asyncio.run(work())
    assert names == ["high", "low"]
    assert difference < 1e-6


def test_both_clients_have_every_call() -> None:
    from clsp_client import calls

    public = {
        name
        for name, value in vars(calls).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", "") == calls.__name__
    } - {"Call", "NewClip", "QueryPart", "decoded"}
    for kind in (Client, AsyncClient):
        assert public <= set(dir(kind))
        assert kind.search.__doc__ == calls.search.__doc__


def test_a_file_that_is_not_there_is_an_os_error(clsp: Client) -> None:
    with pytest.raises(FileNotFoundError):
        clsp.score([(Path("nowhere.wav"), "a")])


@pytest.mark.parametrize("name", ["", ".", "..", "half \ud800"])
def test_a_name_that_would_lead_elsewhere_is_not_sent(clsp: Client, server: Any, name: str) -> None:
    clsp.create_collection("stays")
    clsp.add_items("stays", [NewClip(LOW, "low")])
    calls: list[Any] = [clsp.item, clsp.item_audio, clsp.delete_item, lambda c, id: clsp.patch_item(c, id, {})]
    for call in calls:
        with pytest.raises(InvalidRequestError, match="not the name of an item"):
            call("stays", name)
        with pytest.raises(InvalidRequestError, match="not the name of a collection"):
            call(name, "low")
    for call in (clsp.delete_collection, clsp.job, clsp.cancel_job, clsp.resume_job, clsp.refused):
        with pytest.raises(InvalidRequestError):
            call(name)

    async def work() -> None:
        async with AsyncClient(server.url) as client:
            await client.delete_item("stays", name)

    with pytest.raises(InvalidRequestError):
        asyncio.run(work())
    assert [item["id"] for item in clsp.items("stays")] == ["low"]


def test_the_service_takes_no_id_that_nobody_could_name_again(clsp: Client) -> None:
    clsp.create_collection("named")
    for id in (".", "..", "a/b"):
        with pytest.raises(ProblemError) as refused:
            clsp.add_items("named", [NewClip(LOW, id)])
        assert refused.value.status == 422


@pytest.mark.parametrize("options", [{"query": "half \ud800"}, {"query": "a", "min_score": float("nan")}])
def test_what_no_request_can_hold_is_not_sent(clsp: Client, server: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        clsp.search("any", **options)

    async def work() -> None:
        async with AsyncClient(server.url) as client:
            await client.search("any", **options)

    with pytest.raises(InvalidRequestError):
        asyncio.run(work())


class Script(http.server.BaseHTTPRequestHandler):
    """Answers from a list of (status, headers, body); the last one stays."""

    answers: list[tuple[int, dict[str, str], bytes]]
    times: list[float]

    def do_GET(self) -> None:
        self.times.append(time.monotonic())
        status, headers, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status == 0:
            self.close_connection = True  # hang up without an answer
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def scripted() -> Iterator[tuple[str, type[Script]]]:
    handler = type("Handler", (Script,), {"answers": [], "times": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()


FULL = (503, {"Retry-After": "1", "Content-Type": "application/problem+json"}, b'{"title": "Full", "status": 503}')
FINE = (200, {"Content-Type": "application/json"}, json.dumps({"data": []}).encode())


def test_a_full_service_is_waited_for_as_long_as_it_asks(scripted: tuple[str, type[Script]]) -> None:
    url, handler = scripted
    handler.answers = [FULL, FULL, FINE]
    with Client(url, retry=RetryPolicy(patience_s=30)) as client:
        assert client.collections() == []
    assert [later - earlier >= 1 for earlier, later in zip(handler.times, handler.times[1:], strict=False)] == [
        True
    ] * 2


def test_patience_ends_with_the_services_own_words(scripted: tuple[str, type[Script]]) -> None:
    url, handler = scripted
    handler.answers = [FULL]
    with Client(url, retry=RetryPolicy(patience_s=0.5)) as client, pytest.raises(ProblemError, match="Full") as full:
        client.collections()
    assert full.value.retry_after_s == 1
    assert len(handler.times) == 1, "a wait past the patience is not begun"


def test_a_connection_that_breaks_is_tried_again(scripted: tuple[str, type[Script]]) -> None:
    url, handler = scripted
    hang_up = (0, {}, b"")
    handler.answers = [hang_up, hang_up, FINE]
    policy = RetryPolicy(connection_retries=2, first_wait_s=0.01)
    with Client(url, retry=policy) as client:
        assert client.collections() == []

    async def work() -> list[object]:
        handler.answers = [hang_up, FINE]
        async with AsyncClient(url, retry=policy) as client:
            return [*await client.collections()]

    assert asyncio.run(work()) == []
    handler.answers = [hang_up]
    with Client(url, retry=RetryPolicy(connection_retries=0)) as client, pytest.raises(UnreachableError):
        client.collections()


class Forgetful(http.server.BaseHTTPRequestHandler):
    """A proxy before a service that hangs up instead of handing on the first answer."""

    service: str
    forgets: Iterator[bool]

    def do_DELETE(self) -> None:
        answer = httpx.delete(f"{self.service}{self.path}")
        if next(self.forgets):
            self.close_connection = True
            return
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_delete_whose_answer_is_lost_is_done(clsp: Client, server: Any) -> None:
    clsp.create_collection("lost")
    clsp.add_items("lost", [NewClip(LOW, "low")])
    forgets = itertools.chain([True, False, False, True, False], itertools.repeat(False))
    handler = type("Handler", (Forgetful,), {"service": server.url, "forgets": forgets})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{proxy.server_port}"

        async def work() -> None:
            async with AsyncClient(url, retry=RetryPolicy(first_wait_s=0.01)) as client:
                await client.delete_collection("lost")

        with Client(url, retry=RetryPolicy(first_wait_s=0.01)) as client:
            client.delete_item("lost", "low")
            with pytest.raises(ProblemError) as unknown:
                client.delete_item("lost", "low")
            assert unknown.value.slug == "unknown-item", "no answer was lost: it was never there"
            asyncio.run(work())
            with pytest.raises(ProblemError, match="Collection not found"):
                client.delete_collection("lost")
        proxy.shutdown()
    assert "lost" not in [one["name"] for one in clsp.collections()]


class Slow(http.server.BaseHTTPRequestHandler):
    """Answers the first hundred calls byte by byte for longer than the client bears silence, all others at once."""

    calls: Iterator[int]

    def do_GET(self) -> None:
        waits = 15 if next(self.calls) < 100 else 0
        body = b" " * waits + FINE[2]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for _ in range(waits):
            self.wfile.write(b" ")
            time.sleep(0.1)
        self.wfile.write(FINE[2])

    def log_message(self, format: str, *args: object) -> None:
        pass


class Crowded(http.server.ThreadingHTTPServer):
    request_queue_size = 200


def test_calls_that_wait_for_a_connection_of_other_calls_are_not_late() -> None:
    handler = type("Handler", (Slow,), {"calls": itertools.count()})

    async def work(url: str) -> list[object]:
        async with AsyncClient(url, timeout_s=1) as client:
            return await asyncio.gather(*(client.collections() for _ in range(150)))

    with Crowded(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert asyncio.run(work(f"http://127.0.0.1:{server.server_port}")) == [[]] * 150
        server.shutdown()


@pytest.mark.parametrize("body", [b"<html>", b'{"other": 1}', b"[]", b""])
def test_somebody_elses_answer_is_said(scripted: tuple[str, type[Script]], body: bytes) -> None:
    url, handler = scripted
    handler.answers = [(200, {"Content-Type": "text/html"}, body)]
    with Client(url) as client, pytest.raises(ProblemError, match="not an answer of a clsp service"):
        client.collections()


def test_an_answer_that_arrives_damaged_is_asked_for_again(scripted: tuple[str, type[Script]]) -> None:
    url, handler = scripted
    damaged = (200, {"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"not gzip at all")
    handler.answers = [damaged, FINE]
    policy = RetryPolicy(connection_retries=1, first_wait_s=0.01)
    with Client(url, retry=policy) as client:
        assert client.collections() == []
        handler.answers = [damaged]
        with pytest.raises(UnreachableError, match="its answer arrived damaged"):
            client.collections()

    async def work() -> None:
        async with AsyncClient(url, retry=policy) as client:
            await client.collections()

    with pytest.raises(UnreachableError, match="its answer arrived damaged"):
        asyncio.run(work())


def test_nobody_answers(free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}"
    policy = RetryPolicy(connection_retries=1, first_wait_s=0.01)
    with Client(url, retry=policy) as client, pytest.raises(UnreachableError, match=url):
        client.collections()


@pytest.mark.parametrize("url", ["", "not a url", "ftp://127.0.0.1", "http://[::1", "http://"])
def test_what_is_not_a_url_is_said_at_once(url: str) -> None:
    with pytest.raises(InvalidUrlError):
        Client(url)


def test_a_key_is_sent(scripted: tuple[str, type[Script]]) -> None:
    url, handler = scripted
    seen: list[str | None] = []
    handler.answers = [FINE]
    original = handler.do_GET

    def recording(self: Script) -> None:
        seen.append(self.headers.get("Authorization"))
        original(self)

    handler.do_GET = recording  # type: ignore[method-assign]
    for key in ("secret", " secret\n", " ", None):
        with Client(url, key) as client:
            client.collections()
    assert seen == ["Bearer secret", "Bearer secret", None, None]


@pytest.mark.parametrize("key", ["se\ncret", "schl\u00fcssel", "secret\x00"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_key_that_no_header_carries_is_refused_without_being_shown(
    kind: type[Client] | type[AsyncClient], key: str
) -> None:
    with pytest.raises(InvalidKeyError) as refused:
        kind("http://127.0.0.1:8000", key)
    assert "cret" not in str(refused.value)
    assert "schl" not in str(refused.value)


def test_the_package_stands_alone() -> None:
    """A client is installed where no service is: it may import httpx, and nothing of ours."""
    root = Path(clsp_client.__file__).parent
    text = "".join(path.read_text("utf-8") for path in root.glob("*.py"))
    assert not any(
        f"{verb} {room}" in text for verb in ("from", "import") for room in ("service", "index", "model_export")
    )
