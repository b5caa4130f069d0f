"""Bounds on what one request may bring, said as problems that name the field and the limit."""

from __future__ import annotations

from collections.abc import Sized

from service.core.problems import ProblemError
from service.settings import Settings


def check_count(name: str, values: Sized, limit: int, *, slug: str = "limit-exceeded", setting: str = "") -> None:
    """Raise ProblemError when there are more than `limit`, with the name of the setting where it is one."""
    if len(values) > limit:
        raised = f" (the operator can raise {setting})" if setting else ""
        detail = f"{name}: {len(values)} given; at most {limit} are accepted{raised}"
        raise ProblemError(slug, detail, field=name, limit=limit)


def check_text(name: str, text: str, settings: Settings) -> str:
    """A text that says something and is not over-long. Raises ProblemError."""
    if not text.strip():
        raise ProblemError("invalid-request", f"{name}: the text is empty", field=name, limit=1)
    if len(text) > settings.max_text_chars:
        detail = f"{name}: {len(text)} characters; at most {settings.max_text_chars} are accepted"
        raise ProblemError("limit-exceeded", detail, field=name, limit=settings.max_text_chars)
    return text
