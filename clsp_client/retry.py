"""When to try again, and when to stop: decisions only, so that both clients make the same ones."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

RETRIED = frozenset({429, 503})
"""Statuses that ask for another try. All calls of the API may be repeated: writes replace, searches change nothing, and
what an earlier try deleted is gone, which is what was asked for.
"""
_JITTER = 0.1


@dataclass(frozen=True)
class RetryPolicy:
    """How long to go on.

    patience_s: seconds after the first try within which an answer of 429 or 503 is tried again; 0 never retries.
    The service's Retry-After is a floor: a wait is never shorter, and none is begun that
    would end past the patience.
    connection_retries: tries after the first when no connection comes about or it breaks off.
    first_wait_s, max_wait_s: waits where the service names no time, or one that is shorter than the first wait, double
    from the first to the longest.
    """

    patience_s: float = 60.0
    connection_retries: int = 2
    first_wait_s: float = 0.25
    max_wait_s: float = 15.0

    def start(self, clock: Callable[[], float] = time.monotonic) -> Attempts:
        """Begin to count the tries of one call."""
        return Attempts(self, clock)


class Attempts:
    """The tries of one call. Each question is asked after a failure, and answers with the wait, or None to give up."""

    def __init__(self, policy: RetryPolicy, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        self._give_up = clock() + policy.patience_s
        self._refusals = 0
        self._broken = 0

    @property
    def broke_off(self) -> bool:
        """Whether a try failed of which the service may have heard."""
        return self._broken > 0

    def after_status(self, status: int, retry_after_s: float | None) -> float | None:
        """Seconds to wait after an answer of this status; None when it is the last word."""
        if status not in RETRIED:
            return None
        # Who names no time, or one that is over already, would be asked without a pause.
        asked_s = retry_after_s or 0.0
        wait_s = asked_s if asked_s >= self._policy.first_wait_s else max(asked_s, self._backoff_s(self._refusals))
        self._refusals += 1
        # Callers that were refused together should not come back together.
        wait_s *= 1 + _JITTER * random.random()
        return wait_s if self._clock() + wait_s < self._give_up else None

    def after_broken_connection(self) -> float | None:
        """Seconds to wait after a connection failed; None when that has happened often enough."""
        if self._broken >= self._policy.connection_retries:
            return None
        self._broken += 1
        return self._backoff_s(self._broken - 1)

    def _backoff_s(self, earlier: int) -> float:
        return float(min(self._policy.max_wait_s, self._policy.first_wait_s * 2**earlier))


def parse_retry_after(value: str | None, now: Callable[[], float] = time.time) -> float | None:
    """A Retry-After header, in seconds or as a date (RFC 9110, 10.2.3) -> seconds from now; None where unreadable."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now())
    except (TypeError, ValueError):
        return None
