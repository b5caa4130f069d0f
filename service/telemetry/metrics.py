"""What Prometheus reads at /metrics. One registry an app, so that two apps in one process don't share counters."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.engine import Engine
from service.telemetry.tracing import Tracing

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PIECES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
_SHARES: Final = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class _EngineCollector(Collector):
    """The engine's own counters, as they are at the scrape."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        """Readiness always; counters once the engine has started."""
        yield GaugeMetricFamily("clsp_ready", "1 while the encoders can do their work.", float(self._engine.ready))
        stats = self._engine.stats()
        waiting = GaugeMetricFamily(
            "clsp_queue_waiting", "Work that waits: seconds of audio for speech, texts for text.", labels=["encoder"]
        )
        batches = CounterMetricFamily("clsp_batches", "Batches that an encoder ran.", labels=["encoder"])
        failed = CounterMetricFamily("clsp_batches_failed", "Batches that an encoder failed at.", labels=["encoder"])
        deaths = CounterMetricFamily("clsp_worker_deaths", "Times that an encoder's worker died.", labels=["encoder"])
        speed = GaugeMetricFamily(
            "clsp_encoder_speed", "Measured: seconds of audio a second for speech, texts for text.", labels=["encoder"]
        )
        padded = CounterMetricFamily(
            "clsp_batch_padded", "Size of batches with padding: seconds of audio, characters.", labels=["encoder"]
        )
        useful = CounterMetricFamily(
            "clsp_batch_useful", "Size of batches without padding: seconds of audio, characters.", labels=["encoder"]
        )
        for name, one in (("speech", stats.speech), ("text", stats.text)):
            waiting.add_metric([name], one.waiting)
            batches.add_metric([name], one.batches)
            failed.add_metric([name], one.failed_batches)
            padded.add_metric([name], one.padded)
            useful.add_metric([name], one.useful)
            deaths.add_metric([name], one.deaths)
            speed.add_metric([name], one.per_second or 0.0)
        yield from (waiting, batches, failed, padded, useful, deaths, speed)
        yield CounterMetricFamily("clsp_text_cache_hits", "Texts found in the cache.", stats.cache_hits)
        yield CounterMetricFamily("clsp_text_cache_misses", "Texts that had to be embedded.", stats.cache_misses)
        yield CounterMetricFamily(
            "clsp_shared_in_flight",
            "Texts and clips that were on their way for another caller.",
            stats.shared_in_flight,
        )


class Metrics:
    """Counters and histograms of one app. Labels are route templates and error slugs, never what a caller wrote."""

    def __init__(self, tracing: Tracing | None = None) -> None:
        """With `tracing`, a stage is a span too."""
        self._tracing = tracing
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "clsp_requests_total", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "clsp_request_seconds",
            "Time from a request's first byte to its last answered byte.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("clsp_requests_in_flight", "Requests being answered.", registry=self.registry)
        self.problems = Counter(
            "clsp_problems_total", "Answers other than success, by type.", ["type"], registry=self.registry
        )
        self.stage_seconds = Histogram(
            "clsp_stage_seconds",
            "Time of one stage of a request: decode, encode, search, read or write.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.queue_wait_seconds = Histogram(
            "clsp_queue_wait_seconds",
            "Time that one piece of work waited for its encoder: a window of audio, or a text.",
            ["encoder", "kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_seconds = Histogram(
            "clsp_batch_seconds",
            "Time that an encoder took for a batch.",
            ["encoder"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_pieces = Histogram(
            "clsp_batch_pieces",
            "Pieces of work in a batch.",
            ["encoder"],
            buckets=_PIECES,
            registry=self.registry,
        )
        self.batch_padding = Histogram(
            "clsp_batch_padding_ratio",
            "Share of a batch that is padding.",
            ["encoder"],
            buckets=_SHARES,
            registry=self.registry,
        )
        self.audio_seconds = Counter(
            "clsp_audio_seconds_total", "Seconds of audio that were decoded.", registry=self.registry
        )
        self.texts = Counter(
            "clsp_texts_total", "Texts that were embedded or found in the cache.", registry=self.registry
        )

        self.job_items = Counter(
            "clsp_job_items_total", "Clips that ingest jobs dealt with.", ["outcome"], registry=self.registry
        )
        self.jobs = Gauge("clsp_jobs", "Ingest jobs that are remembered, by state.", ["state"], registry=self.registry)

    def watch(self, engine: Engine) -> None:
        """Read the engine at each scrape rather than keep copies that could go stale."""
        self.registry.register(_EngineCollector(engine))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, also when it fails."""
        began = time.perf_counter()
        try:
            with nullcontext() if self._tracing is None else self._tracing.stage(name):
                yield
        finally:
            self.stage_seconds.labels(name).observe(time.perf_counter() - began)

    def waited(self, worker: str, seconds: float, *, bulk: bool) -> None:
        """A piece of work waited; see `service.engine.work.WorkObserver`."""
        self.queue_wait_seconds.labels(worker, "bulk" if bulk else "interactive").observe(seconds)

    def ran(self, worker: str, seconds: float, *, pieces: int, padded: float, useful: float) -> None:
        """A batch ran; see `service.engine.work.WorkObserver`."""
        self.batch_seconds.labels(worker).observe(seconds)
        self.batch_pieces.labels(worker).observe(pieces)
        self.batch_padding.labels(worker).observe(1.0 - useful / padded if padded else 0.0)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
