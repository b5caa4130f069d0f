"""Refuses query parameters that a call does not have: ignored, a misspelt one gives an answer to another question."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import Request

from service.core.problems import ProblemError


async def refuse_unknown_parameters(request: Request) -> None:
    """Raise ProblemError for the first query parameter below /v1 that the route does not name."""
    dependant = getattr(request.scope.get("route"), "dependant", None)
    if not request.query_params or dependant is None or not request.url.path.startswith("/v1/"):
        return
    known = sorted(_names(dependant))
    for name in request.query_params:
        if name not in known:
            shown, listed = name[:80], ", ".join(known) or "none"
            detail = f"{shown}: unknown query parameter; known: {listed}"
            raise ProblemError("invalid-request", detail, field=shown)


def _names(dependant: Any) -> Iterator[str]:
    """Of the route's own query parameters, and of those of what it depends on."""
    yield from (field.alias for field in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _names(inner)
