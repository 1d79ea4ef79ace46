"""Traces of what is asked of PostgreSQL. Needs opentelemetry-instrumentation-asyncpg where traces are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chassis.postgres.joined import Joined

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


def trace_statements(provider: TracerProvider) -> None:
    """Makes a span of each statement: what Service.trace of a service with PostgreSQL does."""
    from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

    AsyncPGInstrumentor().instrument(tracer_provider=provider)
    Joined.each_alone = True
