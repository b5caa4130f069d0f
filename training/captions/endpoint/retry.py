"""When to ask again: which answers are worth it, how long the server wants us to wait, how long we do."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from training.captions.endpoint.secrets import hidden

Outcome = Literal["retry", "limited", "refused", "stop"]

RETRY = {408, 409, 425, 500, 502, 503, 504, 520, 522, 524, 529}
STOP = {401, 402, 403, 404, 405, 410}
# Answers of 429 that no waiting cures.
SPENT = ("insufficient_quota", "billing", "credit balance", "exceeded your current quota")


@dataclass
class Patience:
    """How long one request may wait out rate limits, from when it was first its turn: a long queue is none."""

    seconds: float
    _began: float | None = None

    def begin(self) -> None:
        """It is its turn."""
        if self._began is None:
            self._began = time.monotonic()

    def left_s(self) -> float:
        """What is left of it; less than nothing once it is used up."""
        return self.seconds - (0.0 if self._began is None else time.monotonic() - self._began)


def outcome(status: int, body: str) -> Outcome:
    """What an answer that is no success asks of us, by its status and what its body says."""
    if status == 429:
        return "stop" if any(word in body.lower() for word in SPENT) else "limited"
    if status in RETRY or status >= 500:
        return "retry"
    # A redirect is not followed, since it would carry the key elsewhere: the URL has to be mended.
    return "stop" if status in STOP or 300 <= status < 400 else "refused"


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that `Retry-After` (RFC 9110: seconds or a date) or `retry-after-ms` ask for; None without either."""
    try:
        milliseconds = headers.get("retry-after-ms")
        if milliseconds is not None:
            return max(0.0, float(milliseconds) / 1000)
        value = headers.get("retry-after")
        if value is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return float(value)
        when = parsedate_to_datetime(value)
        return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())
    except (TypeError, ValueError):
        return None


def backoff_s(attempt: int, first_s: float, longest_s: float, rng: random.Random) -> float:
    """Pause before attempt `attempt + 1` (from 1): doubling, with full jitter so that a crowd does not return at once.

    Never under a tenth of the bound: an immediate retry meets the same fault.
    """
    bound = min(longest_s, first_s * 2.0 ** min(attempt - 1, 30))
    return bound * rng.uniform(0.1, 1.0)


def message_of(body: Any, limit: int = 200, secrets: Sequence[str] = ()) -> str:
    """The human sentence in an error body of whatever shape, without the secrets."""
    if isinstance(body, dict):
        error = body.get("error", body)
        body = (error.get("message") or error.get("detail") or error) if isinstance(error, dict) else error
    text = hidden(" ".join(str(body).split()), secrets)  # before it is cut, lest half a secret is left
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
