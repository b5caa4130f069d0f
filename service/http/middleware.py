"""What surrounds every request: its id, metrics and trace, the last catch, callers that hang up, compression."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core.logging import request_id as current_request_id
from service.core.problems import ProblemError, answer_problem_at
from service.http.access_log import EVERY_ANSWER, logger, name_request, observe
from service.http.body_limit import BodyLimit
from service.http.load_shedding import Load, Shedding
from service.http.origin_guards import HostGuard, OriginGuard
from service.http.path_prefix import PathPrefix
from service.http.rate_limit import FairShares
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing

_CLIENT_GONE: Final = 499
_GZIP_MINIMUM_BYTES: Final = 1024
_GZIP: Final = re.compile(rb"(?:^|,)\s*gzip\s*(?:,|$|;(?!\s*q\s*=\s*0(?:\.0*)?\s*(?:,|$)))", re.IGNORECASE)
"""gzip among the encodings that a caller takes; with a weight of 0 it is one that it doesn't."""


def install_middleware(app: FastAPI, settings: Settings, metrics: Metrics, tracing: Tracing | None = None) -> None:
    """Wrap `app`. The last one added is the outermost."""
    load = Load(settings)
    app.add_middleware(Compression)
    app.add_middleware(HangUps)
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_body_bytes,
        max_total=settings.max_bodies_bytes,
        idle_s=settings.body_idle_s,
        whole_s=settings.request_timeout_s,
    )
    app.add_middleware(FairShares, settings=settings, load=load)
    app.add_middleware(OriginGuard, allowed=settings.cors_origins)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "PUT", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(HostGuard, allowed=settings.allowed_hosts, keyless=not settings.api_keys)
    app.add_middleware(RequestContext, metrics=metrics, tracing=tracing)
    app.add_middleware(Shedding, load=load, metrics=metrics, traced=tracing is not None)
    app.add_middleware(PathPrefix, root_path=settings.root_path)


class RequestContext:
    """Gives a request its id (in `request.state`), answers what nobody caught, and measures."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self.app = app
        self.metrics = metrics
        self.tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = name_request(scope)
        current_request_id.set(request_id)
        began = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"] = list(message.get("headers", ()))
                given = {name for name, _ in headers}
                headers += [pair for pair in EVERY_ANSWER if pair[0] not in given]
                headers.append((b"x-request-id", request_id.encode()))
                MutableHeaders(raw=headers).add_vary_header("Accept-Encoding")
            await send(message)

        self.metrics.in_flight.inc()
        span: AbstractContextManager[Any] = nullcontext() if self.tracing is None else self.tracing.request(scope)
        with span as traced:
            try:
                await self.app(scope, receive, send_with_headers)
            except ClientDisconnect:
                status = status or _CLIENT_GONE
            except Exception:
                logger.exception("request %s: %s %r failed", request_id, scope["method"], scope["path"])
                if status:
                    raise  # half an answer is out: only closing the connection tells the client
                problem = ProblemError("internal", "the service failed at this request; its log names the request id")
                await answer_problem_at(scope, problem)(scope, receive, send_with_headers)
            finally:
                self.metrics.in_flight.dec()
                observe(self.metrics, scope, status, time.perf_counter() - began)
                if self.tracing is not None:
                    self.tracing.answered(traced, scope, status)


class HangUps:
    """Cancels a request whose caller has gone: what it queued is withdrawn, what it was about to decode is not.

    Only POST, whose work is worth it; writes to the catalog that have begun end whole, in their threads.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body_read, gone = asyncio.Event(), asyncio.Event()
        answered = False
        working = asyncio.current_task()
        assert working is not None

        async def receive_and_tell() -> Message:
            if body_read.is_set():
                await gone.wait()
                return {"type": "http.disconnect"}
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                body_read.set()
            return message

        async def send_and_tell(message: Message) -> None:
            nonlocal answered
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                answered = True

        async def watch() -> None:
            await body_read.wait()
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()
            # A server also says "disconnect" when the answer is out.
            if not answered:
                working.cancel()

        watcher = asyncio.create_task(watch())
        try:
            await self.app(scope, receive_and_tell, send_and_tell)
        except asyncio.CancelledError:
            if not gone.is_set():
                raise
            working.uncancel()
            raise ClientDisconnect from None
        finally:
            watcher.cancel()


class Compression:
    """gzip for answers, except audio: it does not shrink, and a compressed byte range would mean other bytes."""

    def __init__(self, app: ASGIApp) -> None:
        self.plain = app
        self.gzip = GZipMiddleware(app, minimum_size=_GZIP_MINIMUM_BYTES, compresslevel=5)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        as_it_is = scope["type"] != "http" or scope["path"].endswith("/audio") or not _takes_gzip(scope)
        await (self.plain if as_it_is else self.gzip)(scope, receive, send)


def _takes_gzip(scope: Scope) -> bool:
    return any(name == b"accept-encoding" and _GZIP.search(value) is not None for name, value in scope["headers"])
