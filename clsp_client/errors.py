"""What a call can raise: one base class to catch, and one class for each thing that a caller can do about it."""

from __future__ import annotations

from typing import Any


class ClspError(Exception):
    """Base of all errors of this package."""


class InvalidUrlError(ClspError):
    """The address is not one that HTTP can be spoken to."""


class InvalidKeyError(ClspError):
    """The API key holds characters that no header can carry. The message does not repeat the key."""


class InvalidRequestError(ClspError):
    """An argument that no request can carry: a name that no path can hold, text that is not Unicode, NaN.

    Nothing was sent.
    """


class UnreachableError(ClspError):
    """Nobody answers at the address, or the answer did not come in time, or not whole."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(f"No clsp service answers at {url} ({reason}).")


class ProblemError(ClspError):
    """The service refused: an RFC 9457 problem document."""

    def __init__(self, status: int, problem: dict[str, Any], retry_after_s: float | None = None) -> None:
        """`retry_after_s`: how long the service asked to wait, where it did."""
        self.status = status
        self.problem = problem
        self.retry_after_s = retry_after_s
        self.title = str(problem.get("title") or f"HTTP {status}")
        self.detail = str(problem.get("detail") or "")
        lines = [f"{self.title} ({status})"]
        if self.detail and self.detail != self.title:
            lines.append(self.detail)
        lines += [f"{name}: {problem[name]}" for name in ("field", "limit") if problem.get(name) is not None]
        super().__init__("\n".join(lines))

    @property
    def slug(self) -> str:
        """The stable last part of the problem's type, such as `invalid-audio`; "" where there is none."""
        return str(self.problem.get("type") or "").rpartition(":")[2]

    @property
    def request_id(self) -> str | None:
        """The id under which the service's log has this request."""
        found = self.problem.get("request_id")
        return None if found is None else str(found)
