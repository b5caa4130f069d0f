"""A chat endpoint on a real socket that misbehaves on purpose, and remembers everything that it was asked and paid."""

import argparse
import hashlib
import json
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
LONG = (
    "A {who} with a {tone} voice speaks at a {pace} pace. At first the delivery is {first}, then it grows {then} with "
    "clear emphasis, and towards the end the pitch falls while the loudness holds steady and the breath is audible."
)
SHORT = "A {tone} {who} speaking at a {pace} pace in a {first} manner."
WORDS = {
    "who": ["woman", "man", "young woman", "older man"],
    "tone": ["warm", "bright", "husky", "low", "nasal", "breathy"],
    "pace": ["slow", "brisk", "measured", "rapid"],
    "first": ["calm", "reserved", "gentle", "firm"],
    "then": ["livelier", "louder", "more insistent", "softer"],
}


@dataclass
class Asked:
    """One request as it arrived."""

    body: Body
    key: str
    at: float
    attempt: int  # from 1, for this key
    authorization: str

    @property
    def text(self) -> str:
        """The user's text."""
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else str(content[-1]["text"])

    @property
    def heard(self) -> str:
        """The clip that it came with, as base64."""
        part = self.body["messages"][-1]["content"][0]
        return str(part["input_audio"]["data"] if "input_audio" in part else part["audio_url"]["url"].split(",")[1])

    @property
    def draw(self) -> int:
        """A number that depends on all that decides an answer."""
        told = json.dumps([self.body["messages"], self.body["seed"], self.body["model"]])
        return int.from_bytes(hashlib.sha256(told.encode()).digest()[:6], "big")


@dataclass
class Raw:
    """A body as it stands."""

    data: bytes
    status: int


Behaviour = Callable[[Asked], Body | Raw | str | None]


@dataclass
class Server:
    """The server's memory. `behave` may answer a request itself; None leaves it to the good answer."""

    url: str = ""
    behave: Behaviour = lambda asked: None
    answer: Callable[[Asked], str] | None = None
    delay_s: float = 0.0
    asked: list[Asked] = field(default_factory=list)
    paid: Counter[str] = field(default_factory=Counter)  # key -> whole answers sent
    attempts: Counter[str] = field(default_factory=Counter)
    busiest: int = 0
    _busy: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)


def caption_of(asked: Asked) -> str:
    """A good caption of the kind that was asked for."""
    fields = {name: words[(asked.draw // (7 * i + 1)) % len(words)] for i, (name, words) in enumerate(WORDS.items())}
    return (LONG if "One paragraph" in asked.text or "Write one paragraph" in asked.text else SHORT).format(**fields)


def good_answer(asked: Asked) -> str:
    """What a model that does its work says to our prompts."""
    if '"passes"' in asked.text:
        return json.dumps({"passes": True, "broken_rule": None, "why": "keeps all rules"})
    if '"correctness"' in asked.text:
        return json.dumps({"correctness": 4, "coverage": 3, "naturalness": 5, "why": "mostly right"})
    if '"better"' in asked.text:
        return json.dumps({"better": 0, "why": "alike"})
    return caption_of(asked)


def completion(text: str, *, finish: str = "stop", refusal: str | None = None, usage: bool = True) -> Body:
    """A chat completion."""
    body: Body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text, "refusal": refusal}, "finish_reason": finish}
        ],
    }
    if usage:
        body["usage"] = {
            "prompt_tokens": 300,
            "completion_tokens": 50,
            "prompt_tokens_details": {"audio_tokens": 100},
        }
    return body


def described(asked: Asked) -> str:
    """The text between the lines of a verifier's or judge's prompt."""
    match = re.search(r"---\n(.*?)\n---", asked.text, re.DOTALL)
    assert match, asked.text
    return match[1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server: Server = self.server.memory  # type: ignore[attr-defined]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers.get("Idempotency-Key", "")
        with server._lock:
            server.attempts[key] += 1
            asked = Asked(body, key, time.monotonic(), server.attempts[key], self.headers.get("Authorization", ""))
            server.asked.append(asked)
            server._busy += 1
            server.busiest = max(server.busiest, server._busy)
        try:
            if server.delay_s:
                time.sleep(server.delay_s)
            told = server.behave(asked)
            if told is None:
                told = completion((server.answer or good_answer)(asked))
            if isinstance(told, Raw):
                self._raw(told.data, status=told.status)
            elif isinstance(told, str):
                self._misbehave(told)
            else:
                self._send(200, told)
                with server._lock:
                    server.paid[key] += 1
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with server._lock:
                server._busy -= 1

    def _misbehave(self, how: str) -> None:
        """`429 2`, `500`, `hang 3`, `half json`, `cut body`, `drop`, `no choices`, `wrapped 503`, `huge`, `drip 5`."""
        name, _, more = how.partition(" ")
        whole = json.dumps(completion("A voice that never arrives.")).encode()
        if name.isdigit():
            headers = {"Retry-After": more} if more else {}
            self._send(int(name), {"error": {"message": f"told to answer {name}"}}, headers)
        elif name == "hang":
            time.sleep(float(more))
            self.close_connection = True
        elif how == "half json":
            self._raw(whole[: len(whole) // 2])
        elif how == "cut body":
            self._raw(whole[: len(whole) // 2], length=len(whole))
            self.close_connection = True
        elif name == "drop":
            self.close_connection = True
        elif how == "no choices":
            self._send(200, {"choices": []})
        elif name == "wrapped":
            self._send(200, {"error": {"message": "upstream", "code": int(more)}})
        elif name == "huge":
            self._send(200, completion("x" * 100_000))
        elif name == "drip":
            self.send_response(200)
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            for at in range(len(whole)):
                self.wfile.write(whole[at : at + 1])
                time.sleep(float(more) / len(whole))
        else:
            raise AssertionError(how)

    def _send(self, status: int, body: Body, headers: dict[str, str] | None = None) -> None:
        self._raw(json.dumps(body).encode(), status=status, headers=headers)

    def _raw(
        self, data: bytes, *, status: int = 200, length: int | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Silence."""


class _Threads(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Clients that are killed hang up in the middle: no traceback for those."""


@contextmanager
def serving(**options: Any) -> Iterator[Server]:
    """A running server. `server.behave` may be changed while it runs."""
    http = _Threads(("127.0.0.1", 0), _Handler)
    memory = Server(url=f"http://127.0.0.1:{http.server_address[1]}/v1", **options)
    http.memory = memory  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        http.shutdown()
        http.server_close()


def first_then(*faults: str) -> Behaviour:
    """Each request meets the faults one after the other, then is answered well."""
    return lambda asked: faults[asked.attempt - 1] if asked.attempt <= len(faults) else None


def keys_by(asked: list[Asked]) -> dict[str, list[Asked]]:
    """Requests by key."""
    found: dict[str, list[Asked]] = defaultdict(list)
    for one in asked:
        found[one.key].append(one)
    return dict(found)


def main() -> None:
    """A stand-in for a model, to try the commands with: `python tests/support/captions_server.py --port 8200`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=8200)
    parser.add_argument("--misbehave", action="store_true", help="every second request meets a fault first")
    options = parser.parse_args()
    faults = ["429 1", "500", "half json", "cut body", "drop", "no choices", "wrapped 502"]

    def behave(asked: Asked) -> Body | str | None:
        if options.misbehave and asked.attempt == 1 and asked.draw % 2:
            return faults[asked.draw // 2 % len(faults)]
        if '"correctness"' in asked.text:
            grades = {"correctness": 3 + asked.draw % 3, "coverage": 2 + asked.draw // 3 % 3, "naturalness": 5}
            return completion(json.dumps(grades | {"why": "drawn by lot"}))
        if '"better"' in asked.text:
            return completion(json.dumps({"better": (1, 1, 2, 0)[asked.draw % 4], "why": "drawn by lot"}))
        if '"passes"' not in asked.text and asked.draw % 10 == 0:
            return completion(caption_of(asked) + " There is no background noise.")
        return None

    http = _Threads(("127.0.0.1", options.port), _Handler)
    http.memory = Server(behave=behave, delay_s=0.05)  # type: ignore[attr-defined]
    print(f"http://127.0.0.1:{options.port}/v1", flush=True)
    http.serve_forever()


if __name__ == "__main__":
    main()
