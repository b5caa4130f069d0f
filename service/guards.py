"""Who may reach the service at all, and with how much: host names, origins of browsers, bodies."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ProblemError, answer_problem_at

_HOSTS_REMEMBERED: Final = 64
"""Few names are asked for again and again; strangers' are forgotten."""


class HostGuard:
    """Refuses names that a stranger could have pointed at this machine (DNS rebinding).

    A page of evil.example whose name resolves to 127.0.0.1 is same-origin with the service, so that origin checks
    don't help; the Host header still says evil.example. A service without keys therefore answers to IP addresses,
    localhost and names without a dot, which nobody can register, and to the names that it is told.
    """

    def __init__(self, app: ASGIApp, *, allowed: Sequence[str], keyless: bool) -> None:
        self.app = app
        self.allowed = [name.lower().rstrip(".") for name in allowed]
        self.keyless = keyless
        self._known = lru_cache(maxsize=_HOSTS_REMEMBERED)(self.knows)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._known(Headers(scope=scope).get("host", "")):
            detail = "the Host header is not one of CLSP_ALLOWED_HOSTS"
            await answer_problem_at(scope, ProblemError("unknown-host", detail, field="Host"))(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def knows(self, host: str) -> bool:
        """Whether a Host header, with or without a port, names this service."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if any(fnmatchcase(name, pattern) for pattern in self.allowed):
            return True
        if not self.keyless:
            return not self.allowed
        return "." not in name.removesuffix(".localhost") or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


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
        if "*" in self.allowed or origin in self.allowed:
            return True
        try:
            return urlsplit(origin).netloc == host
        except ValueError:
            return False


class BodyLimit:
    """Refuses a body over the limit, and one for which the bodies being held leave no room.

    At once where the length is declared, while it streams where not.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_total: int) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_total = max(max_total, max_bytes)
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        declared = int(length) if length.isascii() and length.isdigit() else 0
        if declared > self.max_bytes:
            await answer_problem_at(scope, self._too_large())(scope, receive, send)
            return
        if self.held + declared > self.max_total:
            await answer_problem_at(scope, self._no_room())(scope, receive, send)
            return
        received, counted = 0, declared
        self.held += declared

        async def counting_receive() -> Message:
            nonlocal received, counted
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self.max_bytes:
                    raise self._too_large()
                if received > counted:
                    self.held += received - counted
                    counted = received
                    if self.held > self.max_total:
                        raise self._no_room()
            return message

        try:
            await self.app(scope, counting_receive, send)
        finally:
            self.held -= counted

    def _too_large(self) -> ProblemError:
        detail = f"the body has more than {self.max_bytes} bytes"
        # The connection is not closed: the server drops what still comes, where a reset would lose this answer.
        return ProblemError("body-too-large", detail, field="body", limit=self.max_bytes)

    def _no_room(self) -> ProblemError:
        detail = "the bodies of other requests fill the room for bodies"
        return ProblemError("overloaded", detail, limit=self.max_total, headers={"Retry-After": "1"})
