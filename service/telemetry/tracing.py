"""OpenTelemetry traces, where the extra `otel` is installed and CLSP_OTEL_ENDPOINT is set: requests and their stages.

Nothing is sent anywhere unless an operator says where.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

from service.settings import Settings


class TracingUnavailable(RuntimeError):  # noqa: N818  (what happened, as an operator reads it)
    """Traces were asked for and the extra is not installed."""


class Tracing:
    """Spans of one app. `provider` is an OpenTelemetry SDK TracerProvider."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry import propagate, trace

        self._provider = provider
        self._trace, self._propagate = trace, propagate
        self._tracer = provider.get_tracer("clsp-service", version("clsp-service"))

    @classmethod
    def from_settings(cls, settings: Settings) -> Tracing | None:
        """Traces to `otel_endpoint`, None where it is empty. Raises TracingUnavailable without the extra."""
        if not settings.otel_endpoint:
            return None
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
        except ImportError as error:
            detail = "CLSP_OTEL_ENDPOINT is set; traces need pip install 'clsp-service[otel]'"
            raise TracingUnavailable(detail) from error
        resource = Resource.create({"service.name": "clsp-service", "service.version": version("clsp-service")})
        sampler = ParentBasedTraceIdRatio(settings.otel_sample_ratio)
        provider = TracerProvider(resource=resource, sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.otel_endpoint)))
        return cls(provider)

    @contextmanager
    def request(self, scope: Scope) -> Iterator[Any]:
        """The server's span of a request, a child of the caller's where it sent `traceparent` (W3C)."""
        context = self._propagate.extract(dict(Headers(scope=scope)))
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
        attributes["clsp.request_id"] = scope["state"]["request_id"]
        with self._tracer.start_as_current_span(
            scope["method"], context=context, kind=self._trace.SpanKind.SERVER, attributes=attributes
        ) as span:
            yield span

    def answered(self, span: Any, scope: Scope, status: int) -> None:
        """Name the span by its route, now that it is known, and say how it ended."""
        route = getattr(scope.get("route"), "path", None)
        if route is not None:
            span.update_name(f"{scope['method']} {route}")
            span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        if problem := scope["state"].get("problem"):
            span.set_attribute("error.type", problem)
        if status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A span of one stage, within that of its request."""
        with self._tracer.start_as_current_span(f"clsp.{name}"):
            yield

    def close(self) -> None:
        """Send what was not sent."""
        self._provider.shutdown()
