"""Traces by OpenTelemetry, where OTEL_EXPORTER_OTLP_ENDPOINT says where to; else nothing is imported."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import MutableMapping
from threading import Thread
from typing import Any

from fastapi.telemetry import TelemetryConfig

from chassis.health import PROBES
from chassis.service import Service

log = logging.getLogger(__name__)

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SAMPLED = 0.1
"""One in ten of the traces that begin here; of its own, a caller has decided. OTEL_TRACES_SAMPLER overrules it."""

END_SECONDS = 1.0

OFF = TelemetryConfig(tracing=False, metrics=False, logs=False, operation_spans=False)


def config(service: Service, revision: str) -> TelemetryConfig:
    """What FastAPI is told: a span for each sampled request, and in it those that the service makes.

    FastAPI makes no spans for ASGI's single messages, which others do at a third of the cost of a request.
    Its metrics are Prometheus' here.
    """
    if not os.environ.get(ENDPOINT):
        return OFF
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    class WithoutQuery(SpanProcessor):
        """FastAPI puts the query into the span; what people search for is nobody else's business."""

        def on_start(self, span: Span, *_: object, **__: object) -> None:
            if span.attributes and "url.query" in span.attributes:
                span.set_attribute("url.query", "REDACTED")

    sampler = None if os.environ.get("OTEL_TRACES_SAMPLER") else ParentBased(TraceIdRatioBased(SAMPLED))
    named = {"service.name": service.name, "service.version": service.version, "service.revision": revision}
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over what is named here; in `create` alone they would not.
    resource = Resource.create(named).merge(OTELResourceDetector().detect())
    provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(WithoutQuery())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    service.trace(provider)
    return TelemetryConfig(
        tracer_provider=provider, metrics=False, logs=False, operation_spans=False, exclude=_is_probe
    )


async def end(telemetry: TelemetryConfig) -> None:
    """Sends what was not sent yet, as far as the collector takes it in END_SECONDS."""
    if "tracer_provider" not in telemetry:
        return
    from opentelemetry.sdk.trace import TracerProvider

    provider = telemetry["tracer_provider"]
    assert isinstance(provider, TracerProvider)
    # OpenTelemetry's own end waits half a minute for a collector that does not answer, and takes no other figure.
    sending = Thread(target=provider.shutdown, daemon=True)
    sending.start()
    await asyncio.to_thread(sending.join, END_SECONDS)
    if sending.is_alive():
        log.warning("The last traces were not sent: the collector does not answer")


def _is_probe(scope: MutableMapping[str, Any]) -> bool:
    return scope["path"].removeprefix(scope.get("root_path", "")) in PROBES
