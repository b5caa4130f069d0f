"""What the log says: lines for people, or one JSON object a line; each names the request that it belongs to."""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that is being answered; threads that work for it see it too."""

_FIELDS: Final = ("method", "route", "path", "status", "duration_ms", "key", "problem")
"""What records may carry beside their message, as `extra`."""
_LOGGERS: Final = ("", "uvicorn", "uvicorn.error", "uvicorn.access")


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time, level, logger, message, request_id, and the fields of requests."""

    def format(self, record: logging.LogRecord) -> str:
        """The line. Line breaks in values are escaped by JSON, so that no caller can forge a line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (current := getattr(record, "request_id", None) or request_id.get()) is not None:
            line["request_id"] = current
        line |= {name: value for name in _FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_as_json() -> None:
    """Make every handler of the process write JSON, the server's own among them."""
    for name in _LOGGERS:
        for handler in logging.getLogger(name).handlers:
            handler.setFormatter(JsonFormatter())
