"""OpenTelemetry tracing, if OTEL_EXPORTER_OTLP_ENDPOINT is set; otherwise nothing of it is imported."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import MutableMapping
from threading import Thread
from typing import Any

from fastapi.telemetry import TelemetryConfig

from chassis.health import MONITORING_PATHS
from chassis.service import Service

log = logging.getLogger(__name__)

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SAMPLE_RATIO = 0.1
"""Sampling ratio of traces that start here; a caller's traceparent decides for its own. OTEL_TRACES_SAMPLER overrides
it."""

SHUTDOWN_SECONDS = 1.0

DISABLED = TelemetryConfig(tracing=False, metrics=False, logs=False, operation_spans=False)


def telemetry_config(service: Service, revision: str) -> TelemetryConfig:
    """The configuration for FastAPI: a span for each sampled request, with the service's own spans in it.

    FastAPI creates no spans for single ASGI messages, as others do at a third of the cost of a request.
    Metrics are off: Prometheus' are used instead.
    """
    if not os.environ.get(ENDPOINT):
        return DISABLED
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    class WithoutQuery(SpanProcessor):
        """FastAPI adds the query string to the span; search terms are private."""

        def on_start(self, span: Span, *_: object, **__: object) -> None:
            if span.attributes and "url.query" in span.attributes:
                span.set_attribute("url.query", "REDACTED")

    sampler = None if os.environ.get("OTEL_TRACES_SAMPLER") else ParentBased(TraceIdRatioBased(SAMPLE_RATIO))
    attributes = {"service.name": service.name, "service.version": service.version, "service.revision": revision}
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override these attributes; with `create` alone they would not.
    resource = Resource.create(attributes).merge(OTELResourceDetector().detect())
    provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(WithoutQuery())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    service.instrument(provider)
    return TelemetryConfig(
        tracer_provider=provider, metrics=False, logs=False, operation_spans=False, exclude=_is_probe
    )


async def shutdown(telemetry: TelemetryConfig) -> None:
    """Sends the remaining spans, for at most SHUTDOWN_SECONDS."""
    if "tracer_provider" not in telemetry:
        return
    from opentelemetry.sdk.trace import TracerProvider

    provider = telemetry["tracer_provider"]
    assert isinstance(provider, TracerProvider)
    # OpenTelemetry's shutdown waits half a minute for a collector that does not respond, which is not configurable.
    sender = Thread(target=provider.shutdown, daemon=True)
    sender.start()
    await asyncio.to_thread(sender.join, SHUTDOWN_SECONDS)
    if sender.is_alive():
        log.warning("The last traces were not sent: the collector is not responding")


def _is_probe(scope: MutableMapping[str, Any]) -> bool:
    return scope["path"].removeprefix(scope.get("root_path", "")) in MONITORING_PATHS
