"""The client against a server that misbehaves: faults are ridden out, limits kept, and hopeless cases end the run."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.support.captions_server import completion, first_then, serving
from training.captions.endpoint import (
    Answer,
    AnswerError,
    EndpointPool,
    EndpointSettings,
    EndpointStoppedError,
    RequestRefusedError,
)
from training.captions.endpoint.retry import backoff_s, outcome, retry_after_s

MESSAGES = [{"role": "user", "content": "Write one paragraph"}]


def ask(settings: EndpointSettings, count: int = 1) -> list[Answer | BaseException]:
    async def run() -> list[Answer | BaseException]:
        async with EndpointPool(settings) as pool:
            work = (pool.ask(MESSAGES, seed=i, key=f"k{i}") for i in range(count))
            async with asyncio.timeout(60):
                return list(await asyncio.gather(*work, return_exceptions=True))

    return asyncio.run(run())


@pytest.mark.parametrize(
    "fault",
    ["500", "503 0.05", "429 0.05", "half json", "cut body", "drop", "no choices", "wrapped 503", "408", "529"],
)
def test_a_fault_is_asked_again_until_the_answer_is_whole(fault: str, quick) -> None:
    with serving(behave=first_then(fault, fault)) as server:
        (answer,) = ask(quick(server.url))
    assert isinstance(answer, Answer), answer
    assert len(answer.text) > 100
    assert server.attempts["k0"] == 3
    assert server.paid["k0"] == 1


def test_a_request_that_hangs_or_drips_is_given_up_in_time(quick) -> None:
    for fault in ("hang 30", "drip 60"):
        with serving(behave=first_then(fault)) as server:
            started = time.monotonic()
            (answer,) = ask(quick(server.url, timeout_s=0.3, connect_timeout_s=0.3))
        assert isinstance(answer, Answer), fault
        assert time.monotonic() - started < 10


def test_retry_after_is_waited_out_by_every_request(quick) -> None:
    """One request is told to wait: the others must not go on hammering."""

    def behave(asked):
        return "429 0.6" if len(server.asked) == 1 else None

    with serving() as server:
        server.behave = behave
        answers = ask(quick(server.url, concurrency=1), 5)
    assert all(isinstance(a, Answer) for a in answers)
    first, *others = server.asked
    assert len(others) == 5
    assert min(o.at for o in others) - first.at >= 0.6


def test_a_rate_limit_uses_up_patience_not_attempts(quick) -> None:
    with serving(behave=first_then(*["429 0.02"] * 10)) as server:
        (answer,) = ask(quick(server.url, attempts=2))
        assert isinstance(answer, Answer)
    with serving(behave=lambda asked: "429 30") as server:
        started = time.monotonic()
        (error,) = ask(quick(server.url, patience_s=1))
        assert isinstance(error, AnswerError), error
        assert "30 s are closed" in str(error)
        assert time.monotonic() - started < 2


def test_what_waits_for_its_turn_has_no_patience_for_a_longer_pause(quick) -> None:
    """A pause that begins while requests wait for the only place is not slept out in that place."""
    with serving() as server:
        server.behave = lambda asked: "429 3600" if len(server.asked) > 1 else None
        answers = ask(quick(server.url, concurrency=1, patience_s=5), 12)
    assert len(server.asked) == 2
    assert isinstance(answers[0], Answer)
    assert all(isinstance(a, AnswerError) and "s are closed" in str(a) for a in answers[1:]), answers
    assert "told to answer 429; the next 3600 s are closed" in str(answers[1])


def test_a_long_queue_uses_up_no_patience(quick) -> None:
    def behave(asked):
        return "429 0.05" if asked.key == "k9" and asked.attempt == 1 else None

    with serving(delay_s=0.1, behave=behave) as server:
        answers = ask(quick(server.url, concurrency=1, patience_s=0.8), 10)
    assert all(isinstance(a, Answer) for a in answers), answers


def test_attempts_end(quick) -> None:
    with serving(behave=lambda asked: "500") as server:
        (error,) = ask(quick(server.url, attempts=3))
    assert isinstance(error, AnswerError)
    assert "given up after 3 attempts" in str(error)
    assert "told to answer 500" in str(error)
    assert server.attempts["k0"] == 3


def test_what_no_retry_cures_is_not_retried(quick) -> None:
    refused, stopped = RequestRefusedError, EndpointStoppedError
    told = {"400": refused, "413": refused, "422": refused, "307": stopped, "401": stopped, "404": stopped}
    for status, kind in told.items():
        with serving(behave=lambda asked, status=status: status) as server:
            (error,) = ask(quick(server.url))
        assert type(error) is kind, (status, error)
        assert len(server.asked) == 1
    with serving(behave=lambda asked: "huge") as server:
        (error,) = ask(quick(server.url, max_answer_bytes=5000))
        assert isinstance(error, RequestRefusedError)
        assert "larger than 5000 bytes" in str(error)


def test_many_failures_in_a_row_end_the_run(quick) -> None:
    with serving(behave=lambda asked: "500") as server:
        errors = ask(quick(server.url, attempts=1, failures_in_a_row=5), 8)
    stopped = [e for e in errors if isinstance(e, EndpointStoppedError)]
    assert stopped
    assert "requests in a row failed" in str(stopped[0])


def test_concurrency_and_pace_are_kept(quick) -> None:
    with serving(delay_s=0.05) as server:
        ask(quick(server.url, concurrency=3), 12)
    assert server.busiest == 3
    with serving() as server:
        started = time.monotonic()
        ask(quick(server.url, requests_per_minute=600), 8)
    assert max(a.at for a in server.asked) - started >= 0.7  # seven gaps of a tenth of a second


def test_a_dead_endpoint_does_not_draw_the_work(quick) -> None:
    """Refused connections fail at once; a naive least-busy choice would send everything there."""
    with serving(delay_s=0.02) as server:
        answers = ask(quick("http://127.0.0.1:9/v1", server.url, attempts=4, backoff_max_s=1), 40)
    assert all(isinstance(a, Answer) for a in answers)
    assert len(server.asked) == 40


def test_several_endpoints_share_the_work(quick) -> None:
    with serving(delay_s=0.03) as one, serving(delay_s=0.03) as two:
        ask(quick(one.url, two.url, concurrency=2), 20)
    assert len(one.asked) + len(two.asked) == 20
    assert min(len(one.asked), len(two.asked)) >= 6


def test_usage_refusals_and_the_budget(quick) -> None:
    def behave(asked):
        refused = completion("", refusal="I cannot describe this.", finish="content_filter")
        return refused if asked.body["seed"] == 0 else None

    with serving(behave=behave) as server:
        settings = quick(server.url, concurrency=1, output_price=1000.0, max_cost=0.09)

        async def run() -> tuple[list[Answer | BaseException], EndpointPool]:
            async with EndpointPool(settings) as pool:
                work = [pool.ask(MESSAGES, seed=i, key=f"k{i}") for i in range(4)]
                return [await asyncio.gather(w, return_exceptions=True) for w in work], pool  # type: ignore[misc]

        answers, pool = asyncio.run(run())
    (first,), (second,), (third,), (fourth,) = answers  # type: ignore[misc]
    assert first.refused
    assert first.text == "I cannot describe this."
    assert not second.refused
    assert (second.usage.text_in, second.usage.audio_in, second.usage.out) == (200, 100, 50)
    assert isinstance(third, EndpointStoppedError)  # 2 x 50 tokens at 1000 a million is 0.10
    assert "budget" in str(third)
    assert isinstance(fourth, EndpointStoppedError)
    assert len(server.asked) == 2
    assert pool.cost == pytest.approx(0.1)


def test_the_key_is_sent_and_never_printed(quick) -> None:
    with serving() as server:
        settings = quick(server.url, api_key="sk-secret")
        ask(settings)
    assert server.asked[0].authorization == "Bearer sk-secret"
    assert "sk-secret" not in repr(settings)


def test_the_request_is_what_the_settings_say(quick) -> None:
    extra = {"temperature": None, "max_tokens": None, "max_completion_tokens": 99, "chat_template_kwargs": {"x": False}}
    with serving() as server:
        ask(quick(server.url, extra_body=extra))
    body = server.asked[0].body
    assert body["max_completion_tokens"] == 99
    assert body["chat_template_kwargs"] == {"x": False}
    assert body["seed"] == 0
    assert not {"temperature", "max_tokens"} & set(body)


def test_retry_after_reads_seconds_dates_and_milliseconds() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after_s({"retry-after": "7"}) == 7
    assert retry_after_s({"retry-after": "0.5"}) == 0.5
    assert retry_after_s({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after_s({"retry-after": format_datetime(now + timedelta(seconds=90))}, now) == 90
    assert retry_after_s({"retry-after": format_datetime(now - timedelta(seconds=90))}, now) == 0
    assert retry_after_s({"retry-after": "soon"}) is None
    assert retry_after_s({}) is None


def test_outcomes_and_backoff() -> None:
    import random

    assert outcome(429, '{"error": {"code": "insufficient_quota"}}') == "stop"
    assert outcome(429, "slow down") == "limited"
    assert [outcome(s, "") for s in (500, 599, 400, 403)] == ["retry", "retry", "refused", "stop"]
    rng = random.Random(0)
    pauses = [[backoff_s(n, 1.0, 60.0, rng) for _ in range(200)] for n in range(1, 12)]
    assert all(
        0.1 * min(60, 2 ** (n - 1)) <= p <= min(60, 2 ** (n - 1)) for n, row in enumerate(pauses, 1) for p in row
    )
    assert max(pauses[3]) - min(pauses[3]) > 3  # spread, so that a crowd does not return at once


def test_settings_come_from_the_environment_and_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLSP_JUDGE_BASE_URL", "http://a/v1/, http://b/v1")
    monkeypatch.setenv("CLSP_JUDGE_MODEL", "m")
    monkeypatch.setenv("CLSP_JUDGE_CONCURRENCY", "3")
    settings = EndpointSettings.of("judge", concurrency=None, temperature=0.0)
    assert settings.base_url == ("http://a/v1", "http://b/v1")
    assert (settings.model, settings.concurrency, settings.temperature) == ("m", 3, 0.0)
    assert (settings.max_tokens, EndpointSettings.of("annotator").max_tokens) == (4096, 512)
    with pytest.raises(ValueError, match="CLSP_VERIFIER_BASE_URL"):
        EndpointSettings.of("verifier").require("verifier")
    with pytest.raises(ValueError, match="http"):
        EndpointSettings.of("verifier", base_url=["ftp://x"])
