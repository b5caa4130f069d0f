"""API keys: bearer tokens that are hashed at rest, compared in constant time, and carry scopes."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Literal

from fastapi import Request
from fastapi.security import HTTPBearer

from service.core.problems import ProblemError
from service.settings import ApiKey


def find_key(keys: Sequence[ApiKey], secret: str) -> ApiKey | None:
    """The configured key whose hash is that of `secret`. Always compares with every key, each in constant time."""
    digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
    found = None
    for key in keys:
        if hmac.compare_digest(key.sha256, digest):
            found = key
    return found


class RequireScope(HTTPBearer):
    """Dependency of a route: lets a request through if its key has the scope, or if no keys are configured.

    It is the security scheme of OpenAPI's page itself, rather than depend on one: each dependency costs every request.

    Raises ProblemError `unauthorized` (401) without a valid key, `forbidden` (403) without the scope.
    """

    def __init__(self, scope: Literal["read", "write"]) -> None:
        description = "An API key; needed only where the server was given some."
        super().__init__(scheme_name="HTTPBearer", auto_error=False, description=description)
        self.scope: Literal["read", "write"] = scope

    async def __call__(self, request: Request) -> None:  # type: ignore[override]  # it answers itself, with a problem
        keys: Sequence[ApiKey] = request.app.state.settings.api_keys
        if not keys:
            return
        credentials = await super().__call__(request)
        key = find_key(keys, credentials.credentials) if credentials is not None else None
        challenge = {"WWW-Authenticate": "Bearer"}
        if key is None:
            detail = "send `Authorization: Bearer <key>`" if credentials is None else "this API key is not known"
            raise ProblemError("unauthorized", detail, field="Authorization", headers=challenge)
        if self.scope not in key.scopes:
            challenge["WWW-Authenticate"] = f'Bearer error="insufficient_scope", scope="{self.scope}"'
            detail = f"key {key.name!r} lacks the scope {self.scope!r}"
            raise ProblemError("forbidden", detail, field="Authorization", limit=self.scope, headers=challenge)


require_read = RequireScope("read")
require_write = RequireScope("write")
