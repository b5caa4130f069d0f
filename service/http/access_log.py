"""What every answer has, whoever gives it: an id, headers, its place in the metrics, a line in the log."""

from __future__ import annotations

import logging
import re
import uuid
from typing import Final

from starlette.types import Scope

from service.telemetry.metrics import Metrics

logger = logging.getLogger("clsp.http")

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
EVERY_ANSWER: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Headers of every answer that does not have its own; raw, because this is done for each."""


def name_request(scope: Scope) -> str:
    """The id that the caller gave, or a new one; left in `state["request_id"]`."""
    offered = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
    request_id = offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex
    scope.setdefault("state", {})["request_id"] = request_id
    return request_id


def observe(metrics: Metrics, scope: Scope, status: int, seconds: float) -> None:
    """Count one answered request, and log it; `seconds` from its first byte to the answer's last."""
    # Templates and known methods only: what callers write must not become label values without end.
    route = getattr(scope.get("route"), "path", "unmatched")
    method = scope["method"] if scope["method"] in _METHODS else "other"
    metrics.requests.labels(method, route, str(status)).inc()
    metrics.request_seconds.labels(method, route).observe(seconds)
    state = scope["state"]
    if "problem" in state:
        metrics.problems.labels(state["problem"]).inc()
    if not logger.isEnabledFor(logging.INFO):
        return
    key = state.get("key")
    fields = {
        "request_id": state["request_id"],
        "method": method,
        "route": route,
        "path": scope["path"],
        "status": status,
        "duration_ms": round(seconds * 1000, 1),
        "key": key.name if key is not None else None,
        "problem": state.get("problem"),
    }
    # %r, because a path may hold line breaks that would forge lines of the log.
    line = "%s %s %r %d %.1f ms"
    logger.info(line, state["request_id"], method, scope["path"], status, seconds * 1000, extra=fields)
