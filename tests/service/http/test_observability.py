"""What an operator sees: histograms of every step, one JSON object a log line, traces where they are asked for."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.core.logging import JsonFormatter, request_id
from service.settings import Settings
from service.telemetry.tracing import Tracing, TracingUnavailable
from tests.support.http import add, clip, data_uri
from tests.support.paths import ROOT
from tests.support.serving import Serve, Server


def samples(server: Server) -> dict[str, float]:
    lines = server.client.get("/metrics").text.splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def test_every_step_has_a_histogram(server: Server, collection: str) -> None:
    before = samples(server)
    add(server.client, collection, "seen", clip(2, seed=77))
    server.client.post(f"{collection}/search", json={"query": "a voice for the histograms"})
    server.client.post("/v1/embeddings", json={"input": data_uri(clip(1, seed=78)), "modality": "audio"})
    after = samples(server)
    grown = {name for name, value in after.items() if value > before.get(name, 0.0)}
    for name in (
        'clsp_queue_wait_seconds_count{encoder="speech",kind="bulk"}',
        'clsp_queue_wait_seconds_count{encoder="speech",kind="interactive"}',
        'clsp_queue_wait_seconds_count{encoder="text",kind="interactive"}',
        'clsp_batch_seconds_count{encoder="speech"}',
        'clsp_batch_pieces_sum{encoder="text"}',
        'clsp_batch_padding_ratio_count{encoder="speech"}',
        'clsp_stage_seconds_count{stage="decode"}',
        'clsp_stage_seconds_count{stage="encode"}',
        'clsp_stage_seconds_count{stage="search"}',
        'clsp_request_seconds_count{method="POST",route="/v1/embeddings"}',
        "clsp_text_cache_misses_total",
    ):
        assert name in grown, name
    assert after['clsp_encoder_speed{encoder="speech"}'] > 0


def test_the_dashboard_asks_only_for_metrics_that_exist(server: Server) -> None:
    dashboard = json.loads((ROOT / "docs" / "grafana-dashboard.json").read_text("utf-8"))
    text = server.client.get("/metrics").text
    known = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    known |= {name + end for name in known for end in ("_bucket", "_sum", "_count", "_total")}
    asked: set[str] = set()
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            asked |= set(re.findall(r"(?:clsp|process)_[a-z_]+", target["expr"]))
    assert len(asked) >= 15
    assert asked <= known, asked - known


def test_a_json_line_holds_the_request_and_cannot_be_forged() -> None:
    formatter = JsonFormatter()
    record = logging.LogRecord("clsp.http", logging.INFO, __file__, 1, "said %r", ("a\n{}",), None)
    record.route, record.status = "/v1/models", 200
    token = request_id.set("abc")
    try:
        line = formatter.format(record)
    finally:
        request_id.reset(token)
    assert "\n" not in line
    said = json.loads(line)
    assert said["message"] == "said 'a\\n{}'"
    assert (said["request_id"], said["route"], said["status"], said["level"]) == ("abc", "/v1/models", 200, "info")
    try:
        raise ValueError("broken")
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    assert "ValueError: broken" in json.loads(formatter.format(record))["exception"]


def test_requests_are_logged_as_json_where_asked(serve: Serve, data_dir: Path) -> None:
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler, root = Lines(), logging.getLogger()
    level, formats = root.level, [(one, one.formatter) for one in root.handlers]
    root.addHandler(handler)
    root.setLevel("INFO")
    try:
        with serve(data_dir=data_dir, log_format="json") as own:
            own.client.post("/v1/embeddings", json={"input": ""}, headers={"X-Request-ID": "mine"})
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        for one, formatter in formats:
            one.setFormatter(formatter)
    (said,) = [line for line in map(json.loads, lines) if line["logger"] == "clsp.http"]
    assert said["request_id"] == "mine"
    assert (said["method"], said["route"], said["status"]) == ("POST", "/v1/embeddings", 422)
    assert said["problem"] == "invalid-request"
    assert said["duration_ms"] >= 0


def test_traces_are_off_and_ask_for_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    assert Tracing.from_settings(Settings()) is None
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(TracingUnavailable, match=r"clsp-service\[otel\]"):
        Tracing.from_settings(Settings(otel_endpoint="http://127.0.0.1:1/v1/traces"))


@pytest.fixture
def exporter() -> Iterator[Any]:
    pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    yield InMemorySpanExporter()


def test_a_request_and_its_stages_are_one_trace(
    exporter: Any, serve: Serve, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(Tracing, "from_settings", classmethod(lambda cls, settings: cls(provider)))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with serve(data_dir=data_dir) as own:
        body = {"input": data_uri(clip(1)), "modality": "audio"}
        own.client.post("/v1/embeddings", json=body, headers={"traceparent": parent})
        spans = {span.name: span for span in exporter.get_finished_spans()}
    request = spans["POST /v1/embeddings"]
    assert format(request.context.trace_id, "032x") == parent.split("-")[1]
    assert request.attributes["http.response.status_code"] == 200
    for stage in ("clsp.decode", "clsp.encode"):
        assert spans[stage].parent.span_id == request.context.span_id
