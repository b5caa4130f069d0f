"""Behind a path prefix, as https://host/clsp/ is: which one this request came under, for the addresses in answers.

A proxy that takes the prefix off says so in X-Forwarded-Prefix; one that leaves it on, or says nothing, needs
CLSP_ROOT_PATH. The page finds its own prefix from where its scripts lie, so it works with neither.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_prefix: ContextVar[str] = ContextVar("path_prefix", default="")
# No "//" at the start and no other host: what a caller writes here comes back as an address in the answer to it.
_VALID: Final = re.compile(r"(?:/[A-Za-z0-9][A-Za-z0-9._~-]*){1,8}")
_MAX_CHARS: Final = 200


def path_prefix() -> str:
    """Of the request that is being answered: "" or "/clsp"."""
    return _prefix.get()


class PathPrefix:
    """Takes the prefix off the path where it is still there, and puts it before redirects."""

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self.app = app
        self._root_path = root_path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prefix = self._of(scope) if scope["type"] == "http" else ""
        if not prefix:
            await self.app(scope, receive, send)
            return
        path: str = scope["path"]
        if path == prefix or path.startswith(f"{prefix}/"):
            if path == prefix:
                # The page's own addresses are relative to the folder it lies in.
                await RedirectResponse(f"{prefix}/", 308)(scope, receive, send)
                return
            rest = path[len(prefix) :]
            scope = {**scope, "path": rest, "raw_path": scope.get("raw_path", b"")[len(prefix) :] or b"/"}
        told = _prefix.set(prefix)

        async def send_below(message: Message) -> None:
            if message["type"] == "http.response.start" and 301 <= message["status"] <= 308:
                headers = MutableHeaders(scope=message)
                if "location" in headers:
                    to = urlsplit(headers["location"])
                    headers["location"] = f"{prefix}{to.path}" + (f"?{to.query}" if to.query else "")
            await send(message)

        try:
            await self.app(scope, receive, send_below)
        finally:
            _prefix.reset(told)

    def _of(self, scope: Scope) -> str:
        told = Headers(scope=scope).get("x-forwarded-prefix", "").rstrip("/")
        if told and len(told) <= _MAX_CHARS and _VALID.fullmatch(told):
            return told
        return self._root_path
