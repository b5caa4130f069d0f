"""Turns requests away at the door, where that costs least: too many at one time, or too far behind to look at more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final, Literal

from starlette.types import ASGIApp, Receive, Scope, Send

from service.core.problems import OPENAI_PATHS, ProblemError, answer_problem_at
from service.http.access_log import EVERY_ANSWER, name_request, observe
from service.settings import Settings
from service.telemetry.metrics import Metrics

FREE: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Whoever runs the service must see it most when it is full."""
_BEAT_S: Final = 0.05
Reason = Literal["crowded", "behind"]
_PLACE_OF_ID: Final = "request-id-goes-here"


class Load:
    """How many requests are being answered, and how far the event loop is behind; one app's, used on its loop only.

    What arrives waits unseen while the loop is busy, longer with each request that is let in. So the loop keeps its own
    appointments, and how late it comes to them tells that wait.
    """

    def __init__(self, settings: Settings) -> None:
        self.active = 0
        self._max_requests, self._max_lag_s = settings.max_requests, settings.max_lag_s
        # A batch's worth: with fewer let in, a loop that lags for another reason would cost throughput.
        self._enough = settings.batch_texts
        self._due = float("inf")
        self._lag_s = 0.0

    @property
    def lag_s(self) -> float:
        """Seconds that the loop was late at its last appointment, or is late now."""
        return max(self._lag_s, time.monotonic() - self._due)

    @property
    def reason(self) -> Reason | None:
        """Why a request that comes now is turned away, if it is: all places are taken, or the loop lags.

        A lagging loop still gets as many requests as keep the encoders busy.
        """
        if self.active >= self._max_requests:
            return "crowded"
        return "behind" if self.active >= self._enough and self.lag_s > self._max_lag_s else None

    def problem(self, reason: Reason) -> ProblemError:
        """The answer. The same words for all, so that they need to be written only once."""
        if reason == "crowded":
            detail, limit = f"{self._max_requests} requests are being answered", self._max_requests
            return ProblemError("overloaded", detail, limit=limit, headers={"Retry-After": "1"})
        detail = f"requests wait for more than {self._max_lag_s:g} s until they are looked at"
        return ProblemError("overloaded", detail, limit=self._max_lag_s, headers={"Retry-After": "1"})

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Measure the running loop's lag within the context."""
        loop = asyncio.get_running_loop()

        self._due = time.monotonic()

        def beat() -> None:
            now = time.monotonic()
            self._lag_s = max(0.0, now - self._due)
            self._due = now + _BEAT_S
            timers[0] = loop.call_later(_BEAT_S, beat)

        timers: list[asyncio.Handle] = [loop.call_soon(beat)]
        try:
            yield
        finally:
            timers[0].cancel()
            self._due, self._lag_s = float("inf"), 0.0


class Shedding:
    """Answers with a problem document made beforehand while no more can be let in.

    It is the outermost of all, because most of what a refusal costs is the way in and out. Calls from browsers' pages
    go on to where refusals are given the headers that let the page read them, and traced ones to their spans.
    """

    def __init__(self, app: ASGIApp, *, load: Load, metrics: Metrics, traced: bool) -> None:
        self.app = app
        self._load, self._metrics, self._traced = load, metrics, traced
        self._made = lru_cache(maxsize=4)(_document)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            with self._load.watched():
                await self.app(scope, receive, send)
        elif scope["type"] == "http" and (reason := self._load.reason) and self._here(scope):
            await self._refuse(reason, scope, send)
        else:
            await self.app(scope, receive, send)

    def _here(self, scope: Scope) -> bool:
        return not self._traced and scope["path"] not in FREE and all(name != b"origin" for name, _ in scope["headers"])

    async def _refuse(self, reason: Reason, scope: Scope, send: Send) -> None:
        began = time.perf_counter()
        headers, start, end = self._made(self._load, reason, scope["path"].startswith(OPENAI_PATHS))
        request_id = name_request(scope).encode()
        scope["state"]["problem"] = "overloaded"
        body = start + request_id + end
        own = [(b"content-length", b"%d" % len(body)), (b"x-request-id", request_id)]
        await send({"type": "http.response.start", "status": 503, "headers": [*headers, *own]})
        await send({"type": "http.response.body", "body": body})
        observe(self._metrics, scope, 503, time.perf_counter() - began)


def _document(load: Load, reason: Reason, openai: bool) -> tuple[list[tuple[bytes, bytes]], bytes, bytes]:
    """A refusal's headers, and its body before and after the request's id; rendered as every other problem is."""
    scope = {"path": OPENAI_PATHS[0] if openai else "/", "state": {"request_id": _PLACE_OF_ID}}
    answer = answer_problem_at(scope, load.problem(reason))
    start, _, end = bytes(answer.body).partition(_PLACE_OF_ID.encode())
    headers = [pair for pair in answer.raw_headers if pair[0] != b"content-length"]
    return [*headers, *EVERY_ANSWER, (b"vary", b"Accept-Encoding")], start, end
