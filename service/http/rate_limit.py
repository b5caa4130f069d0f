"""Fair shares: how much one caller may have at a time and a second, and how much all together."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.core.problems import ProblemError, answer_problem_at
from service.http.auth import find_key
from service.http.load_shedding import FREE, Load
from service.settings import ApiKey, Settings


class _Caller:
    """What one key does: requests under way, and a token bucket."""

    def __init__(self, *, rate: float, burst: int) -> None:
        self.active = 0
        self._rate, self._burst = rate, float(burst)
        self._tokens, self._filled = float(burst), time.monotonic()

    def wait_s(self) -> float:
        """0 and a token is spent, or the seconds until there is one."""
        if not self._rate:
            return 0.0
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate


class FairShares:
    """Refuses a request before its body is read: 429 for the caller's own excess, 503 where all together are too many.

    A caller is an API key; all who have none, or a wrong one, are one caller. Leaves the key in `state["key"]`.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings, load: Load) -> None:
        self.app = app
        self._settings = settings
        self._callers: dict[str | None, _Caller] = {}
        self._load = load

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in FREE:
            await self.app(scope, receive, send)
            return
        key = bearer_key(self._settings.api_keys, scope)
        scope.setdefault("state", {})["key"] = key
        name = key.name if key is not None else None
        caller = self._callers.get(name)
        if caller is None:
            settings = self._settings
            caller = self._callers[name] = _Caller(rate=settings.key_requests_per_s, burst=settings.key_burst)
        problem = self._refusal(caller, counted=not _is_page(scope["path"]))
        if problem is not None:
            await answer_problem_at(scope, problem)(scope, receive, send)
            return
        self._load.active += 1
        caller.active += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._load.active -= 1
            caller.active -= 1

    def _refusal(self, caller: _Caller, *, counted: bool) -> ProblemError | None:
        settings = self._settings
        if reason := self._load.reason:
            return self._load.problem(reason)
        if not counted:
            return None
        if settings.key_concurrency and caller.active >= settings.key_concurrency:
            detail = f"this key has {caller.active} requests under way"
            headers = {"Retry-After": "1"}
            return ProblemError("too-many-requests", detail, limit=settings.key_concurrency, headers=headers)
        if wait_s := caller.wait_s():
            detail = f"this key may send {settings.key_requests_per_s:g} requests a second"
            headers = {"Retry-After": str(max(1, math.ceil(wait_s)))}
            return ProblemError("too-many-requests", detail, limit=settings.key_requests_per_s, headers=headers)
        return None


def _is_page(path: str) -> bool:
    """The page's own files: a dozen a visit, sent without a key. Counted, one reload would use up everybody's share."""
    return path in ("/", "/docs") or path.startswith("/web/")


def bearer_key(keys: Sequence[ApiKey], scope: Scope) -> ApiKey | None:
    """The configured key that a request carries, if any."""
    if not keys:
        return None
    kind, _, secret = Headers(scope=scope).get("authorization", "").partition(" ")
    return find_key(keys, secret.strip()) if kind.lower() == "bearer" else None
