"""Too much, too late, nobody there, or a dead encoder: every caller is told, and nothing is done for nobody."""

import asyncio
import ctypes
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from service.cli.local_server import local_server
from tests.support.http import clip, data_uri, refused
from tests.support.serving import Serve, Server

PATIENCE = 20.0


def audio(seconds: float, seed: int) -> dict[str, str]:
    return {"input": data_uri(clip(seconds, seed=seed)), "modality": "audio"}


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


def held_encoder(own: Server) -> tuple[threading.Event, threading.Event]:
    """Let the speech encoder wait inside a batch, as a stuck device would: (it has begun, let it go on)."""
    begun, go = threading.Event(), threading.Event()
    engine = own.app.state.services.engine
    original = engine.runtime.embed_speech

    def slow(waves: list[object]) -> object:
        begun.set()
        assert go.wait(PATIENCE)
        return original(waves)

    engine.runtime.embed_speech = slow
    return begun, go


def waiting_speech(own: Server) -> float:
    return float(own.app.state.services.engine.stats().speech.waiting)


def test_a_caller_who_hangs_up_costs_nothing_more(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir) as own:
        began, go = held_encoder(own)
        host, port = own.client.base_url.host, own.client.base_url.port
        body = [json.dumps(audio(3.0, seed)).encode() for seed in range(4)]
        callers = []
        for one in body:
            caller = socket.create_connection((host, port))
            head = f"POST /v1/embeddings HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            caller.sendall(head.encode() + f"Content-Length: {len(one)}\r\n\r\n".encode() + one)
            callers.append(caller)
            assert began.wait(PATIENCE), "the first clip has the encoder before the second comes"
            until(lambda: waiting_speech(own) >= 3.0 * (len(callers) - 1) - 0.1)
        for caller in callers:
            caller.close()
        until(lambda: 'status="499"' in own.client.get("/metrics").text)
        go.set()
        until(lambda: waiting_speech(own) == 0)
        own.client.post("/v1/embeddings", json=audio(1.0, 9)).raise_for_status()
        pieces = own.app.state.services.engine.stats().speech.pieces
        assert pieces == 2, "the batch that ran when they hung up, and the caller who stayed"
        assert "clsp_requests_in_flight 1.0" in own.client.get("/metrics").text


def test_a_killed_worker_is_seen_answered_and_replaced(serve: Serve, data_dir: Path) -> None:
    """Readiness is false within 2 s, nobody hangs, and the service comes back by itself."""
    with serve(data_dir=data_dir) as own:
        began, go = held_encoder(own)
        with ThreadPoolExecutor(12) as pool:
            calls = [pool.submit(own.client.post, "/v1/embeddings", json=audio(1.0, 0))]
            assert began.wait(PATIENCE), "one clip has the encoder before the others come"
            calls += [pool.submit(own.client.post, "/v1/embeddings", json=audio(1.0, seed)) for seed in range(1, 12)]
            until(lambda: waiting_speech(own) >= 5.0)
            thread = ctypes.c_ulong(own.app.state.services.engine._speech._thread.ident)
            killed = time.monotonic()
            assert ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(SystemExit))
            go.set()
            until(lambda: own.client.get("/readyz").status_code == 503)
            assert time.monotonic() - killed < 2.0
            late = own.client.post("/v1/embeddings", json=audio(1.0, 99))
            if late.status_code != 200:
                refused(late, 503, "unavailable")
                assert late.headers["retry-after"] == "1"
            assert own.client.post("/v1/embeddings", json={"input": "text goes on"}).status_code == 200
            answers = [call.result(PATIENCE) for call in calls]
        failed = [answer for answer in answers if answer.status_code != 200]
        assert 1 <= len(failed) < 12, "what ran is lost and said so; what waited is done by the next worker"
        for answer in failed:
            told = refused(answer, *((500, "engine-failed") if answer.status_code == 500 else (503, "unavailable")))
            assert int(answer.headers["retry-after"]) >= 1, told
        assert 500 in {answer.status_code for answer in failed}
        until(lambda: own.client.get("/readyz").status_code == 200)
        assert own.client.post("/v1/embeddings", json=audio(1.0, 100)).status_code == 200
        assert 'clsp_worker_deaths_total{encoder="speech"} 1.0' in own.client.get("/metrics").text


def test_an_encoder_beyond_recovery_ends_the_process(serve: Serve, data_dir: Path) -> None:
    reasons: list[str] = []
    with serve(
        on_fatal=reasons.append, data_dir=data_dir, heartbeat_timeout_s=1.5, unhealthy_exit_s=0.5, request_timeout_s=3
    ) as own:
        held_encoder(own)
        began = time.monotonic()
        answer = own.client.post("/v1/embeddings", json=audio(1.0, 1))
        assert answer.status_code in (500, 504), answer.text
        assert time.monotonic() - began < 5
        until(lambda: bool(reasons))
        assert own.client.get("/readyz").status_code == 503
    assert "have not worked" in reasons[0]


def test_giving_up_ends_the_process_with_a_status_that_asks_for_a_restart() -> None:
    code = "from service.app import end_process; import signal, time; {}end_process('x', grace_s=0.2); time.sleep(9)"
    ignored = "signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    for before, status in (("", -signal.SIGTERM), (ignored, 70)):
        done = subprocess.run([sys.executable, "-c", code.format(before)], timeout=60, check=False)
        assert done.returncode == status


def begun_to_answer(client: httpx.Client) -> float:
    """How many clips' requests the service has begun to answer; those whose bytes it never read are not its own yet."""
    text = client.get("/metrics").text
    sample = r'^clsp_requests_total\{.*route="/v1/embeddings".*\} (\S+)$|^clsp_requests_in_flight (\S+)$'
    the_asking_itself = 1
    return sum(float(done or now) for done, now in re.findall(sample, text, re.MULTILINE)) - the_asking_itself


def test_a_stop_signal_lets_accepted_requests_finish(tmp_path: Path) -> None:
    patient = {"CLSP_MAX_WAIT_S": "120"}  # a busy machine is not what is tested here
    with (
        local_server(tmp_path / "data", environment=patient) as server,
        httpx.Client(base_url=server.url, timeout=120) as client,
    ):
        with ThreadPoolExecutor(6) as pool:
            calls = [pool.submit(client.post, "/v1/embeddings", json=audio(20.0, seed)) for seed in range(6)]
            until(lambda: begun_to_answer(client) == 6)
            os.kill(server.pid, signal.SIGTERM)
            assert [call.result(120).status_code for call in calls] == [200] * 6
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{server.url}/healthz", timeout=5)


def test_a_stop_signal_does_not_wait_for_a_stalled_upload(tmp_path: Path) -> None:
    with local_server(tmp_path / "data", environment={"CLSP_BODY_IDLE_S": "2"}) as server:
        caller = socket.create_connection(("127.0.0.1", httpx.URL(server.url).port), timeout=PATIENCE)
        caller.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        caller.sendall(b"Content-Length: 1000000\r\n\r\n")
        until(lambda: "clsp_requests_in_flight 2.0" in httpx.get(f"{server.url}/metrics").text)
        os.kill(server.pid, signal.SIGTERM)
        assert b" 408 " in answered(caller)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{server.url}/healthz", timeout=5)


def test_a_connection_is_kept_for_as_long_as_the_settings_say(tmp_path: Path) -> None:
    """Who obeys Retry-After, or keeps a pool, asks again after seconds: the server's own 5 s lost such calls."""
    with local_server(tmp_path / "data", environment={"CLSP_KEEP_ALIVE_S": "600"}) as server:
        caller = HTTPConnection("127.0.0.1", httpx.URL(server.url).port, timeout=PATIENCE)
        caller.request("GET", "/healthz")
        assert caller.getresponse().read()
        kept = caller.sock
        assert select.select([kept], [], [], 6.5)[0] == [], "the connection was closed"
        caller.request("GET", "/healthz")
        assert caller.getresponse().read()
        assert caller.sock is kept
        caller.close()


def test_refused_before_the_body_is_read_where_there_is_no_time(serve: Serve, data_dir: Path) -> None:
    # No machine encodes 18 s in a hundredth of a second, however fast its probe was.
    with serve(data_dir=data_dir, max_wait_s=0.01, batch_audio_s=1.0) as own:
        begun, go = held_encoder(own)
        with ThreadPoolExecutor(16) as pool:
            calls = [pool.submit(own.client.post, "/v1/embeddings", json=audio(9.0, 0))]
            assert begun.wait(PATIENCE)
            calls.append(pool.submit(own.client.post, "/v1/embeddings", json=audio(9.0, 1)))
            until(lambda: waiting_speech(own) >= 8.9)
            decoded = own.client.get("/metrics").text.partition('clsp_stage_seconds_count{stage="decode"} ')[2][:4]
            problem = refused(own.client.post("/v1/embeddings", json=audio(9.0, 50)), 503, "overloaded")
            assert "can wait for 0.0 s" in problem["detail"]
            again = own.client.get("/metrics").text.partition('clsp_stage_seconds_count{stage="decode"} ')[2][:4]
            assert again == decoded, "a clip was decoded that nobody has time for"
            go.set()
            assert {call.result(PATIENCE).status_code for call in calls} == {200}


def test_one_key_cannot_take_the_others_share(serve: Serve, data_dir: Path) -> None:
    import hashlib

    keys = [f"{name}:read:{hashlib.sha256(name.encode()).hexdigest()}" for name in ("a", "b")]
    with serve(data_dir=data_dir, api_keys=keys, key_concurrency=2, key_requests_per_s=5, key_burst=8) as own:
        own.client.headers["Authorization"] = "Bearer a"
        begun, go = held_encoder(own)
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(own.client.post, "/v1/embeddings", json=audio(1.0, 0))]
            assert begun.wait(PATIENCE)
            calls.append(pool.submit(own.client.post, "/v1/embeddings", json=audio(1.0, 1)))
            until(lambda: waiting_speech(own) >= 1.0)
            answer = own.client.post("/v1/embeddings", json={"input": "x"})
            problem = refused(answer, 429, "too-many-requests")
            assert problem["limit"] == 2
            assert answer.headers["retry-after"] == "1"
            other = {"Authorization": "Bearer b"}
            assert own.client.post("/v1/embeddings", json={"input": "x"}, headers=other).status_code == 200
            assert own.client.get("/metrics").status_code == 200
            go.set()
            assert [call.result(PATIENCE).status_code for call in calls] == [200, 200]
        answers = [own.client.get("/v1/models") for _ in range(40)]
        turned_away = [one for one in answers if one.status_code == 429]
        assert turned_away
        assert refused(turned_away[0], 429, "too-many-requests")["limit"] == 5
        assert own.client.get("/v1/models", headers=other).status_code == 200
        assert own.client.get("/healthz").status_code == 200


def test_requests_and_bodies_are_bounded_all_together(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir, max_requests=1, max_body_bytes=200_000, max_bodies_bytes=200_000) as own:
        begun, go = held_encoder(own)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(own.client.post, "/v1/embeddings", json=audio(2.0, 1))
            assert begun.wait(PATIENCE)
            answer = own.client.get("/v1/models")
            assert refused(answer, 503, "overloaded")["limit"] == 1
            assert answer.headers["retry-after"] == "1"
            go.set()
            assert call.result(PATIENCE).status_code == 200
        assert own.client.get("/v1/models").status_code == 200


def test_bodies_that_wait_count_until_they_are_answered(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir, max_body_bytes=120_000, max_bodies_bytes=120_000) as own:
        begun, go = held_encoder(own)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(own.client.post, "/v1/embeddings", json=audio(2.0, 1))  # 85 kB
            assert begun.wait(PATIENCE)
            refused(own.client.post("/v1/embeddings", json=audio(2.0, 2)), 503, "overloaded")
            chunks = (json.dumps(audio(2.0, 2)).encode() for _ in range(1))
            streamed = own.client.post("/v1/embeddings", content=chunks, headers={"Content-Type": "application/json"})
            refused(streamed, 503, "overloaded")
            go.set()
            assert call.result(PATIENCE).status_code == 200
        assert own.client.post("/v1/embeddings", json=audio(2.0, 2)).status_code == 200


def connected(own: Server, first: bytes = b"") -> socket.socket:
    """A connection that has sent so much."""
    caller = socket.create_connection((own.client.base_url.host, own.client.base_url.port), timeout=PATIENCE)
    caller.sendall(first)
    return caller


def upload(own: Server, declared: int, first: bytes = b'{"input": "') -> socket.socket:
    """Begin to send a body of so many bytes."""
    head = "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return connected(own, f"{head}Content-Length: {declared}\r\n\r\n".encode() + first)


def answered(caller: socket.socket) -> bytes:
    """All that the service sends until it closes the connection."""
    return b"".join(iter(lambda: caller.recv(65_536), b""))


def test_bodies_take_room_as_they_come(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir, max_body_bytes=120_000, max_bodies_bytes=200_000) as own:
        stalled = [upload(own, 120_000) for _ in range(4)]
        until(lambda: "clsp_requests_in_flight 5.0" in own.client.get("/metrics").text)
        assert own.client.post("/v1/embeddings", json=audio(2.0, 1)).status_code == 200  # 85 kB
        for caller in stalled:
            caller.sendall(b"x" * 70_000)
        # Two of them fit with what they have sent; who asked for more than is left was told so, and the others go on.
        turned_away, going_on = [], []
        until(lambda: len(select.select(stalled, [], [], 0)[0]) >= 2)
        for caller in stalled:
            readable = bool(select.select([caller], [], [], 0)[0])
            (turned_away if readable else going_on).append(caller)
        assert len(turned_away) == 2
        for caller in turned_away:
            answer = caller.recv(65_536)
            assert b" 503 " in answer and b"retry-after: 1" in answer and b"overloaded" in answer, answer
            caller.close()
        rest = b'"}'.rjust(120_000 - 70_000 - len(b'{"input": "'), b" ")
        for caller in going_on:
            caller.sendall(rest)
            assert b" 422 " in caller.recv(65_536), "the text is longer than it may be, but all of it came"
            caller.close()
        assert own.client.post("/v1/embeddings", json=audio(2.0, 1)).status_code == 200


def test_a_body_that_stops_coming_gives_its_place_back(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir, max_requests=1, body_idle_s=0.5) as own:
        caller = upload(own, 100)
        answer = answered(caller)
        assert b" 408 " in answer and b"connection: close" in answer.lower(), answer
        assert b"urn:clsp-service:error:body-timeout" in answer
        assert b'"limit":0.5' in answer
        assert own.client.get("/v1/models").status_code == 200


def test_a_body_has_no_longer_than_a_request(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir, request_timeout_s=1.0, body_idle_s=0.8) as own:
        caller = upload(own, 10_000)
        while not select.select([caller], [], [], 0.05)[0]:
            caller.sendall(b"a")
        answer = answered(caller)
        assert b" 408 " in answer and b"not whole after 1 s" in answer, answer


HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


def test_a_request_head_is_bounded(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir, max_head_bytes=8192) as own:
        tiny = b"a: b\r\n" * 10_000
        for head in (HEAD + b"X-A: " + b"a" * 9000, HEAD + tiny, b"GET /" + b"a" * 9000, b"\r\n" * 5000):
            answer = answered(connected(own, head))
            assert answer.startswith(b"HTTP/1.1 431 "), answer
            assert b"urn:clsp-service:error:head-too-large" in answer and b'"limit":8192' in answer
        many = HEAD.replace(b"close", b"keep-alive") + b"X-A: " + b"a" * 5000 + b"\r\n\r\n"
        last = HEAD + b"X-A: " + b"a" * (8192 - len(HEAD) - len(b"X-A: \r\n\r\n")) + b"\r\n\r\n"
        answer = answered(connected(own, many * 20 + last))
        assert answer.count(b"HTTP/1.1 200 ") == 21, "each head counts from its own beginning"
        body = b"x" * 100_000
        assert own.client.post("/v1/embeddings", content=body).status_code == 415, "a body is not of the head"


def test_a_connection_without_a_request_is_closed(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir, keep_alive_s=1.0, head_timeout_s=0.3) as own:
        silent, half, half_again = connected(own), connected(own, HEAD[:-9]), connected(own)
        half_again.sendall(HEAD.replace(b"close", b"keep-alive") + b"\r\n" + HEAD[:-9])
        assert answered(silent) == b""
        assert answered(half) == b""
        assert answered(half_again).count(b"HTTP/1.1 200 ") == 1
        unread = connected(own, b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        assert b" 404 " in unread.recv(65_536)
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            for _ in range(int(PATIENCE / 0.05)):
                unread.sendall(b"a")
                time.sleep(0.05)


def test_a_request_that_takes_long_keeps_its_connection(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir, keep_alive_s=1.0, head_timeout_s=0.2, body_idle_s=5.0) as own:
        caller = upload(own, 13, b"")
        for byte in b'{"input":"a"}':
            time.sleep(0.15)
            caller.sendall(bytes([byte]))
        assert b" 200 " in caller.recv(65_536)


def test_threads_stay_bounded_when_callers_come_and_go() -> None:
    """A cancelled wait gives its slot back when its thread ends, and work that has not begun never begins."""
    from service.core.threads import in_thread

    running = most = begun = 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most, begun
        with lock:
            running, begun = running + 1, begun + 1
            most = max(most, running)
        time.sleep(0.1)
        with lock:
            running -= 1

    async def main() -> None:
        threads = ThreadPoolExecutor(2)
        for _ in range(5):
            tasks = [asyncio.create_task(in_thread(work, threads)) for _ in range(6)]
            await asyncio.sleep(0.02)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await in_thread(work, threads)

    asyncio.run(main())
    assert most <= 2
    assert begun < 10
