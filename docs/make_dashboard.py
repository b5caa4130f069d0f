"""Writes docs/grafana-dashboard.json: panels for every histogram and counter of /metrics. Import the file in Grafana.

python docs/make_dashboard.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent / "grafana-dashboard.json"
WIDTH, HEIGHT = 8, 8


def quantiles(metric: str, by: str = "", share: tuple[float, ...] = (0.5, 0.99)) -> list[tuple[str, str]]:
    """p50 and p99 of a histogram, for each value of a label."""
    group = f"le, {by}" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    return [
        (
            f"histogram_quantile({q}, sum by ({group}) (rate({metric}_bucket[$__rate_interval])))",
            f"p{q * 100:g}{legend}",
        )
        for q in share
    ]


def ratio(over: str, under: str, by: str = "") -> str:
    """One rate over another."""
    group = f" by ({by})" if by else ""
    return f"sum{group} (rate({over}[$__rate_interval])) / sum{group} (rate({under}[$__rate_interval]))"


PANELS: list[tuple[str, str, str, list[tuple[str, str]]]] = [
    ("Ready", "1 while the encoders work.", "none", [("min(clsp_ready)", "ready")]),
    (
        "Requests",
        "Answers a second, by route.",
        "reqps",
        [("sum by (route) (rate(clsp_requests_total[$__rate_interval]))", "{{route}}")],
    ),
    (
        "Problems",
        "Answers other than success, by type. `overloaded` and `deadline-exceeded` say that there is too much to do.",
        "reqps",
        [("sum by (type) (rate(clsp_problems_total[$__rate_interval]))", "{{type}}")],
    ),
    ("Time of a request", "From the first byte in to the last byte out.", "s", quantiles("clsp_request_seconds")),
    ("p99 by route", "Which call is slow.", "s", quantiles("clsp_request_seconds", "route", (0.99,))),
    (
        "Stages",
        "Where the time goes: decode, encode, search, read, write.",
        "s",
        quantiles("clsp_stage_seconds", "stage"),
    ),
    ("Wait for the encoder", "By kind: interactive goes first.", "s", quantiles("clsp_queue_wait_seconds", "kind")),
    (
        "Queue",
        "What waits, as seconds of work: over 10 s interactive requests are refused.",
        "s",
        [("sum by (encoder) (clsp_queue_waiting / (clsp_encoder_speed > 0))", "{{encoder}}")],
    ),
    ("Batches", "Time of a batch.", "s", quantiles("clsp_batch_seconds", "encoder")),
    (
        "Pieces of a batch",
        "Mean.",
        "none",
        [(ratio("clsp_batch_pieces_sum", "clsp_batch_pieces_count", "encoder"), "{{encoder}}")],
    ),
    (
        "Padding",
        "Share of the encoders' work that is padding; speech stays under 5 %.",
        "percentunit",
        [("1 - " + ratio("clsp_batch_useful_total", "clsp_batch_padded_total", "encoder"), "{{encoder}}")],
    ),
    (
        "Speed",
        "Seconds of audio a second, texts a second, as measured on the last batches.",
        "none",
        [("clsp_encoder_speed", "{{encoder}}")],
    ),
    (
        "Texts for free",
        "Share of texts that were cached; and texts and clips that were on their way for somebody else.",
        "percentunit",
        [
            (
                "sum(rate(clsp_text_cache_hits_total[$__rate_interval])) / (sum(rate(clsp_text_cache_hits_total"
                "[$__rate_interval])) + sum(rate(clsp_text_cache_misses_total[$__rate_interval])))",
                "cached",
            ),
            ("sum(rate(clsp_shared_in_flight_total[$__rate_interval]))", "shared a second"),
        ],
    ),
    (
        "Failures",
        "Batches that failed and workers that died. Anything here is worth a look.",
        "none",
        [
            ("sum by (encoder) (increase(clsp_batches_failed_total[$__rate_interval]))", "failed {{encoder}}"),
            ("sum by (encoder) (increase(clsp_worker_deaths_total[$__rate_interval]))", "died {{encoder}}"),
        ],
    ),
    (
        "Ingest jobs",
        "Clips a second, by what became of them.",
        "none",
        [("sum by (outcome) (rate(clsp_job_items_total[$__rate_interval]))", "{{outcome}}")],
    ),
    (
        "Jobs",
        "By state.",
        "none",
        [('clsp_jobs{state=~"queued|listing|running|failed"}', "{{state}}")],
    ),
    (
        "Memory",
        "Resident.",
        "bytes",
        [("process_resident_memory_bytes", "resident"), ("clsp_requests_in_flight", "requests in flight")],
    ),
]


def panel(number: int, title: str, description: str, unit: str, queries: list[tuple[str, str]]) -> dict[str, Any]:
    """One time series."""
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "description": description,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": number % 3 * WIDTH, "y": number // 3 * HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(65 + i), "expr": expression, "legendFormat": legend}
            for i, (expression, legend) in enumerate(queries)
        ],
    }


def dashboard() -> dict[str, Any]:
    """The whole dashboard."""
    return {
        "title": "clsp-service",
        "uid": "clsp-service",
        "tags": ["clsp"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": [panel(number, *one) for number, one in enumerate(PANELS)],
    }


if __name__ == "__main__":
    OUT.write_text(json.dumps(dashboard(), indent=1) + "\n", "utf-8")
