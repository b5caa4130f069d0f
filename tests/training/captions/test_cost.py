"""What is told before the start: calls, tokens, time and price, by hand-counted examples."""

from pathlib import Path

import pytest

from training.captions import cost
from training.captions.book import Prompt
from training.captions.endpoint import EndpointSettings
from training.captions.formats import Row, read_rows


def settings(**more: object) -> EndpointSettings:
    return EndpointSettings.of("annotator", base_url=["http://a/v1", "http://b/v1"], model="m", **more)


def test_a_manifest_is_measured(clips: list[Row], manifest: Path) -> None:
    assert cost.measure_manifest(read_rows(manifest), 30.0) == (12, pytest.approx(4.8))
    assert cost.measure_manifest(read_rows(manifest), 0.1) == (12, pytest.approx(1.2))  # no more than is sent
    bare = [{"id": row["id"], "path": row["path"]} for row in clips]
    assert cost.measure_manifest(bare, 30.0) == (12, pytest.approx(4.8))  # from headers
    assert cost.measure_manifest([{"id": "x", "path": "/none.wav"}], 30.0) == (1, 10.0)
    assert cost.measure_manifest([], 30.0) == (0, 0.0)


def test_an_estimate_by_hand() -> None:
    options = settings(
        concurrency=5, answer_s=2.0, answer_tokens=100, input_price=1.0, audio_price=4.0, output_price=10.0
    )
    made = cost.of_annotation(1000, 5000.0, {"short": 1, "long": 2}, options)
    assert made.calls == 3000
    assert made.audio_tokens == 3 * 5000 * 12.5  # the clip is heard for each caption
    assert made.output_tokens == 300_000
    words = sum(
        (len(p.system) + len(p.user)) // 4 * n for p, n in ((Prompt.load("short"), 1), (Prompt.load("long"), 2))
    )
    assert made.text_tokens == 1000 * words
    assert made.price == pytest.approx((made.text_tokens * 1 + made.audio_tokens * 4 + made.output_tokens * 10) / 1e6)
    assert made.seconds == 3000 * 2.0 / (5 * 2)
    slow = cost.of_annotation(1000, 5000.0, {"short": 1, "long": 2}, settings(requests_per_minute=30))
    assert slow.seconds == 3000 / (30 * 2) * 60
    assert slow.price == 0
    told = dict(cost.lines(made, options))
    assert told["requests, at most"] == "3,000"
    assert "unknown" in dict(cost.lines(slow, settings()))["price"]


def test_checks_and_judgements_cost_too() -> None:
    checked = cost.of_verification(100, {"short": 1, "long": 1}, 50, settings())
    assert checked.calls == 160
    assert checked.audio_tokens == 0
    judged = cost.of_judging(10, 100.0, 4, 2, settings())
    assert judged.calls == 60
    assert judged.audio_tokens == 6 * 100 * 12.5
