"""Traces of SQL statements. Requires opentelemetry-instrumentation-asyncpg if traces are exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chassis.postgres.batching import Batcher

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


def trace_statements(provider: TracerProvider) -> None:
    """Records a span per statement: the implementation of Service.instrument for a service with PostgreSQL."""
    from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

    AsyncPGInstrumentor().instrument(tracer_provider=provider)
    Batcher.disabled = True
