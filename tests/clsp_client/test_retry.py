"""When the client tries again and when it gives up: decisions on a clock of the test's own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clsp_client import RetryPolicy
from clsp_client.retry import parse_retry_after


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_only_refusals_that_ask_for_it_are_repeated() -> None:
    attempts = RetryPolicy(patience_s=60).start(Clock())
    for status in (200, 201, 400, 401, 404, 409, 413, 422, 500, 502, 504):
        assert attempts.after_status(status, 1.0) is None
    for status in (429, 503):
        assert attempts.after_status(status, 1.0) is not None


@given(st.floats(min_value=0.25, max_value=50), st.integers(min_value=0, max_value=5))
def test_a_wait_is_never_shorter_than_asked(asked_s: float, earlier: int) -> None:
    attempts = RetryPolicy(patience_s=60).start(Clock())
    for _ in range(earlier):
        attempts.after_status(503, None)
    wait_s = attempts.after_status(503, asked_s)
    assert wait_s is not None
    assert asked_s <= wait_s <= 1.1 * asked_s


def test_a_wait_past_the_patience_is_not_begun() -> None:
    clock = Clock()
    attempts = RetryPolicy(patience_s=10).start(clock)
    assert attempts.after_status(503, 30.0) is None
    assert attempts.after_status(503, 5.0) is not None
    clock.now += 6
    assert attempts.after_status(503, 5.0) is None


def test_without_a_time_the_waits_double_up_to_the_longest() -> None:
    attempts = RetryPolicy(patience_s=1000, first_wait_s=1, max_wait_s=8).start(Clock())
    waits = [attempts.after_status(429, None) for _ in range(6)]
    for wait_s, base in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
        assert wait_s is not None
        assert base <= wait_s <= 1.1 * base


@pytest.mark.parametrize("asked_s", [0.0, 0.2])
def test_a_time_that_is_over_already_is_none(asked_s: float) -> None:
    attempts = RetryPolicy(patience_s=1000, first_wait_s=1, max_wait_s=8).start(Clock())
    waits = [attempts.after_status(503, asked_s) for _ in range(5)]
    assert all(wait_s is not None and wait_s >= base for wait_s, base in zip(waits, (1, 2, 4, 8, 8), strict=True))


def test_broken_connections_are_counted() -> None:
    attempts = RetryPolicy(connection_retries=2).start(Clock())
    assert [attempts.after_broken_connection() is None for _ in range(3)] == [False, False, True]
    assert RetryPolicy(connection_retries=0).start(Clock()).after_broken_connection() is None


def test_no_patience_means_no_retry() -> None:
    assert RetryPolicy(patience_s=0).start(Clock()).after_status(503, 0.0) is None


def test_retry_after_is_seconds_or_a_date() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert parse_retry_after("7") == 7.0
    assert parse_retry_after(" 0 ") == 0.0
    later = format_datetime(noon + timedelta(seconds=90), usegmt=True)
    assert parse_retry_after(later, noon.timestamp) == pytest.approx(90)
    assert parse_retry_after(format_datetime(noon - timedelta(hours=1), usegmt=True), noon.timestamp) == 0.0
    for nonsense in (None, "", "soon", "-1", "1.5", "٣"):
        assert parse_retry_after(nonsense) is None
