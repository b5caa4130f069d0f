"""Who may reach the service at all: by which host names, and from which origins of browsers."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.core.problems import ProblemError, answer_problem_at

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
