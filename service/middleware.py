"""What surrounds every request: its id and metrics, the last catch, body and origin checks, compression."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ProblemError, answer_problem_at
from service.metrics import Metrics
from service.settings import Settings

logger = logging.getLogger("clsp.http")

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_CLIENT_GONE: Final = 499
_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
_GZIP_MINIMUM_BYTES: Final = 1024
_SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def install_middleware(app: FastAPI, settings: Settings, metrics: Metrics) -> None:
    """Wrap `app`. The last one added is the outermost."""
    app.add_middleware(Compression)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(OriginGuard, allowed=settings.cors_origins)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "PUT", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(RequestContext, metrics=metrics)


class RequestContext:
    """Gives a request its id (in `request.state`), answers what nobody caught, and measures."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        offered = Headers(scope=scope).get("x-request-id", "")
        request_id = offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        began = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = _CLIENT_GONE
        except Exception:
            logger.exception("request %s: %s %r failed", request_id, scope["method"], scope["path"])
            if status:
                raise  # half an answer is out: only closing the connection tells the client
            problem = ProblemError("internal", "the service failed at this request; its log names the request id")
            await answer_problem_at(scope, problem)(scope, receive, send_with_headers)
        finally:
            self.metrics.in_flight.dec()
            self._observe(scope, status, time.perf_counter() - began)

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        # Templates and known methods only: what callers write must not become label values without end.
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.request_seconds.labels(method, route).observe(seconds)
        state = scope["state"]
        if "problem" in state:
            self.metrics.problems.labels(state["problem"]).inc()
        # %r, because a path may hold line breaks that would forge lines of the log.
        logger.info("%s %s %r %d %.1f ms", state["request_id"], method, scope["path"], status, seconds * 1000)


class OriginGuard:
    """Refuses calls that another site's page makes a browser send.

    A service on localhost without keys would otherwise be writable by every page that its user visits: forms and
    plain fetches need no CORS permission to arrive.
    """

    def __init__(self, app: ASGIApp, *, allowed: Sequence[str]) -> None:
        self.app = app
        self.allowed = {origin.rstrip("/") for origin in allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and not self._is_allowed(origin, headers.get("host", "")):
                problem = ProblemError("cross-origin", "this origin is not among CLSP_CORS_ORIGINS", field="Origin")
                await answer_problem_at(scope, problem)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _is_allowed(self, origin: str, host: str) -> bool:
        # The scheme is left out of the comparison: behind a TLS proxy the page is https and we are http.
        return "*" in self.allowed or origin in self.allowed or urlsplit(origin).netloc == host


class BodyLimit:
    """Refuses a body over the limit: at once where its length is declared, while it streams where not."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared) > self.max_bytes:
            await answer_problem_at(scope, self._too_large())(scope, receive, send)
            return
        received = 0

        async def counting_receive() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self.max_bytes:
                    raise self._too_large()
            return message

        await self.app(scope, counting_receive, send)

    def _too_large(self) -> ProblemError:
        detail = f"the body has more than {self.max_bytes} bytes"
        # The connection is not closed: the server drops what still comes, where a reset would lose this answer.
        return ProblemError("body-too-large", detail, field="body", limit=self.max_bytes)


class Compression:
    """gzip for answers, except audio: it does not shrink, and a compressed byte range would mean other bytes."""

    def __init__(self, app: ASGIApp) -> None:
        self.plain = app
        self.gzip = GZipMiddleware(app, minimum_size=_GZIP_MINIMUM_BYTES, compresslevel=5)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_audio = scope["type"] == "http" and scope["path"].endswith("/audio")
        await (self.plain if is_audio else self.gzip)(scope, receive, send)
