"""The one error shape: every answer that is not a success is application/problem+json (RFC 9457) with a stable type."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:clsp-service:error:"
MAX_LISTED_ERRORS: Final = 20
"""A request can be wrong in thousands of places; a reader needs the first few."""
MAX_MEMBER_CHARS: Final = 80

# slug -> (status, title). The slug is the stable part of `type`: clients switch on it, so it is never renamed.
PROBLEMS: Final[dict[str, tuple[int, str]]] = {
    "malformed-body": (400, "Malformed request body"),
    "unauthorized": (401, "API key missing or invalid"),
    "forbidden": (403, "API key lacks the required scope"),
    "unknown-host": (421, "Host not allowed"),
    "cross-origin": (403, "Origin not allowed"),
    "ingest-off": (403, "Server-side ingest is disabled"),
    "not-found": (404, "Not found"),
    "unknown-collection": (404, "Collection not found"),
    "unknown-item": (404, "Item not found"),
    "unknown-job": (404, "Job not found"),
    "unknown-model": (404, "Model not found"),
    "no-audio": (404, "Audio not stored for this item"),
    "method-not-allowed": (405, "Method not allowed"),
    "body-timeout": (408, "Request body timeout"),
    "identity-mismatch": (409, "Embedding identity mismatch"),
    "conflict": (409, "Conflict"),
    "body-too-large": (413, "Payload too large"),
    "too-many-parts": (413, "Too many parts in the request"),
    "audio-too-large": (413, "Audio too large"),
    "unsupported-media-type": (415, "Unsupported media type"),
    "range-not-satisfiable": (416, "Range not satisfiable"),
    "invalid-request": (422, "Invalid request"),
    "invalid-source": (422, "Invalid source"),
    "invalid-audio": (422, "Invalid audio"),
    "invalid-filter": (422, "Invalid filter"),
    "unknown-field": (422, "Unknown metadata field"),
    "dimension-mismatch": (422, "Dimension mismatch"),
    "invalid-cursor": (422, "Invalid cursor"),
    "limit-exceeded": (422, "Limit exceeded"),
    "too-many-requests": (429, "Too many requests"),
    "too-many-jobs": (429, "Job queue is full"),
    "head-too-large": (431, "Request headers too large"),
    "internal": (500, "Internal server error"),
    "overloaded": (503, "Service overloaded"),
    "unavailable": (503, "Service unavailable"),
    "engine-failed": (500, "Encoder error"),
    "storage-failed": (503, "Storage error"),
    "storage-full": (507, "Insufficient storage"),
    "deadline-exceeded": (504, "Deadline exceeded"),
}
_FRAMEWORK: Final = {
    400: "malformed-body",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    413: "body-too-large",
    415: "unsupported-media-type",
    416: "range-not-satisfiable",
    421: "unknown-host",
    429: "too-many-requests",
    503: "unavailable",
}


class ProblemError(HTTPException):
    """An answer other than success. Raised anywhere below the middleware, it reaches the caller as problem+json.

    It derives from Starlette's HTTPException so that body parsers, which wrap unknown exceptions, let it through.
    """

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        field: str | None = None,
        limit: float | str | None = None,
        headers: Mapping[str, str] | None = None,
        **extensions: Any,
    ) -> None:
        """`slug` is a key of PROBLEMS, `field` the place as "items[0].audio", `limit` what was broken."""
        status, self.title = PROBLEMS[slug]
        super().__init__(status, detail, dict(headers or {}))
        self.slug = slug
        self.field = field
        self.limit = limit
        self.extensions = extensions

    def body(self, request_id: str | None) -> dict[str, Any]:
        """The problem document; members without a value are left out."""
        members = {
            "type": TYPE_PREFIX + self.slug,
            "title": self.title,
            "status": self.status_code,
            "detail": self.detail,
            "field": self.field,
            "limit": self.limit,
            **self.extensions,
            "request_id": request_id,
        }
        return {name: value for name, value in members.items() if value is not None}


class _ProblemResponse(JSONResponse):
    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        """As for all answers, except that a problem may quote what no encoding has, such as half a surrogate pair."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def problem_response(problem: ProblemError, request_id: str | None) -> JSONResponse:
    """Render a problem as a response."""
    body = problem.body(request_id)
    return _ProblemResponse(body, status_code=problem.status_code, headers=problem.headers)


def field_path(loc: Sequence[str | int]) -> str:
    """("items", 0, "audio") -> "items[0].audio". Members that callers name, like labels, may be long and are cut."""
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part[:MAX_MEMBER_CHARS]}"
    return path.removeprefix(".")


def validation_problem(errors: Sequence[Mapping[str, Any]], *, prefix: str = "") -> ProblemError:
    """Turn pydantic's error list (`ValidationError.errors()`) into one problem that leads with the first error.

    `prefix` is the part of the request that was validated, for JSON that arrives inside a form field or the query.
    """
    listed = []
    for error in errors[:MAX_LISTED_ERRORS]:
        field = field_path([prefix, *error["loc"]] if prefix else error["loc"])
        listed.append({"field": field, "detail": str(error["msg"]).removeprefix("Value error, ")})
    field, detail = listed[0]["field"], listed[0]["detail"]
    if errors[0]["type"] == "json_invalid":
        return ProblemError("malformed-body", detail, field=field or "body")
    context = errors[0].get("ctx") or {}
    limit = next((context[key] for key in _LIMIT_KEYS if key in context), None)
    return ProblemError(
        "invalid-request",
        f"{field}: {detail}" if field else detail,
        field=field or None,
        limit=limit if isinstance(limit, int | float | str) else None,
        errors=listed if len(listed) > 1 else None,
    )


_LIMIT_KEYS: Final = ("le", "lt", "ge", "gt", "max_length", "min_length", "pattern", "expected")


OPENAI_PATHS: Final = ("/v1/embeddings", "/v1/models")
"""OpenAI's clients show their user nothing of an error but its member `message`, so there the problem has one too."""


def answer_problem(request: Request, problem: ProblemError) -> JSONResponse:
    """Answer `request` with a problem that carries its id, and leave its type for the metrics."""
    return answer_problem_at(request.scope, problem)


def answer_problem_at(scope: Scope, problem: ProblemError) -> JSONResponse:
    """The same below FastAPI, where a request is its ASGI scope."""
    state = scope.setdefault("state", {})
    state["problem"] = problem.slug
    if scope["path"].startswith(OPENAI_PATHS):
        problem.extensions |= {"message": problem.detail, "param": problem.field}
    return problem_response(problem, state.get("request_id"))


def _methods(request: Request) -> list[str]:
    """All methods of the address; the router knows only those of the first route that matched it."""
    path = getattr(request.scope.get("route"), "path", "")
    return sorted(method.upper() for method in request.app.openapi()["paths"].get(path, {}))


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ProblemError):
        assert isinstance(error, HTTPException)
        slug = _FRAMEWORK.get(error.status_code, "internal" if error.status_code >= 500 else "invalid-request")
        problem = ProblemError(slug, str(error.detail), headers=error.headers)
        problem.status_code = error.status_code
        if error.status_code == 405:
            problem.headers = {"Allow": ", ".join(_methods(request)) or (error.headers or {}).get("Allow", "")}
        error = problem
    return answer_problem(request, error)


async def _on_invalid_parameters(request: Request, error: Exception) -> JSONResponse:
    # Bodies are validated by our own reader: these are path, query and header parameters, which loc[0] tells apart.
    assert isinstance(error, RequestValidationError)
    errors = [{**item, "loc": item["loc"][1:]} for item in error.errors()]
    return answer_problem(request, validation_problem(errors))


def install_error_handlers(app: FastAPI) -> None:
    """Make problems of our own exceptions and the framework's. What nobody expected is caught by the middleware."""
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameters)
