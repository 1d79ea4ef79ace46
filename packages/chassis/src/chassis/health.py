"""/health for people and Prometheus, the probes /livez and /readyz for Kubernetes, and /metrics."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Depends, Query, Request, Response, status
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from prometheus_client import REGISTRY, CollectorRegistry, Gauge
from pydantic import BaseModel, ConfigDict, Field

from chassis.auth import requires
from chassis.check import Check
from chassis.exposition import exposition_response, prefers_exposition
from chassis.problems import problem_responses
from chassis.routes import Router
from chassis.service import HealthTexts, Service

TICK_SECONDS = 0.5

MONITORING_PATHS = {"/health", "/metrics", "/livez", "/readyz"}
"""Requested by machines every few seconds: never traced, and logged only when they fail."""
NO_STORE_HEADERS = {"Vary": "Accept", "Cache-Control": "no-store"}


class HealthResponse(BaseModel):
    # No docstring: it would be in the OpenAPI document.

    status: Literal["ok", "degraded"]
    version: str = Field(description="Release version")
    revision: str = Field(description="Build: a commit, or a hash of the sources")
    uptime_seconds: float = Field(description="Seconds since this process started")
    total: int | None
    memory_bytes: int = Field(description="Resident memory of this process (on macOS its peak)")
    storage: str
    checks: dict[str, Check]


@cache  # each app needs it twice
def response_model(texts: HealthTexts) -> type[HealthResponse]:
    """The response model of /health, with the names and descriptions of this service."""
    total_name = f"{texts.noun}_total"
    example = {
        "status": "ok",
        "version": "0.1.0",
        "revision": "4b60abfbe2d1",
        "uptime_seconds": 4711.25,
        **({total_name: 42} if texts.noun else {}),
        "memory_bytes": 57438208,
        **texts.example,
    }

    class Health(HealthResponse):
        model_config = ConfigDict(json_schema_extra={"examples": [example]})

        total: int | None = Field(serialization_alias=total_name, description=texts.total, exclude=not texts.noun)
        storage: str = Field(description=texts.storage)

    return Health


class HealthState:
    """Health of one running app. Startup and shutdown set `started` and `draining`."""

    def __init__(self, service: Service, *, revision: str) -> None:
        self._service = service
        self._model = response_model(service.health)
        self._revision = revision
        self._started_at = time.monotonic()
        self.started = False
        """Whether the service and its storage are open."""
        self.draining = False
        """Whether shutdown has begun: the process still serves requests, but should get no new clients."""
        build_info = service.metrics.build_info
        build_info.clear()
        python = ".".join(map(str, sys.version_info[:3]))
        build_info.labels(service.version, revision, python, service.storage).set(1)

    async def health(self) -> HealthResponse:
        """Runs the service's health checks; a failed check never raises."""
        total, checks = await self._service.check_health()
        return self._model(
            status="degraded" if any(check.status == "failed" for check in checks.values()) else "ok",
            version=self._service.version,
            revision=self._revision,
            uptime_seconds=round(time.monotonic() - self._started_at, 3),
            total=total,
            memory_bytes=_memory_bytes(),
            storage=self._service.storage,
            checks=checks,
        )

    def gauges(self, health: HealthResponse) -> CollectorRegistry:
        """The same as gauges for Prometheus."""
        registry, namespace, texts = CollectorRegistry(), self._service.metrics.namespace, self._service.health
        for name, text, value in (
            ("health_status", "1 if healthy, 0 if degraded", float(health.status == "ok")),
            ("uptime_seconds", "Seconds since the process started", health.uptime_seconds),
            (texts.noun, texts.gauge, health.total if texts.noun else None),
            ("memory_bytes", "Resident memory of the process", health.memory_bytes),
        ):
            if value is not None:
                Gauge(f"{namespace}_{name}", text, registry=registry).set(value)
        return registry

    def readiness(self) -> dict[str, bool]:
        """The readiness checks.

        The storage is not among them: all pods lose it at once, and a Service without endpoints refuses connections,
        while a pod responds 503 with Retry-After.
        """
        return {"started": self.started, "not-draining": not self.draining}

    async def measure_loop_lag(self) -> None:
        """Measures event loop lag until it is cancelled."""
        loop, lag = asyncio.get_running_loop(), self._service.metrics.loop_lag_seconds
        while True:
            due = loop.time() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            lag.observe(max(0.0, loop.time() - due))


async def _accept(request: Request) -> str:
    """The header, with all its lines combined (RFC 9110, section 5.2)."""
    return ",".join(request.headers.getlist("accept"))


Accept = Annotated[str, Depends(_accept)]


def router(service: Service) -> Router:
    """The four routes, with the descriptions of this service."""
    return _router(service.health, service.metrics.namespace)


@cache  # building them is half of the cost of creating an app
def _router(texts: HealthTexts, namespace: str) -> Router:
    response = response_model(texts)
    exposition = {"text/plain": {"schema": {"type": "string"}, "example": f"{namespace}_health_status 1.0\n"}}
    # Not chassis.routes.Route: monitors append arbitrary query strings, and a rejected probe restarts the pod.
    router = Router(tags=["health"], route_class=APIRoute)
    router.get(
        "/health",
        summary="Health status",
        response_model=response,
        responses={200: {"content": exposition}, 503: {"model": response, "description": texts.degraded}},
    )(health)
    router.get(
        "/metrics",
        summary="Prometheus metrics",
        dependencies=[Depends(requires("read"))],
        response_class=Response,
        responses={200: {"content": exposition}, **problem_responses(401, 403, 429, 503)},
    )(get_metrics)
    router.get(
        "/livez",
        summary="Liveness probe",
        response_class=PlainTextResponse,
        responses={200: {"content": {"text/plain": {"example": "ok"}}}},
    )(livez)
    router.get(
        "/readyz",
        summary="Readiness probe",
        response_class=PlainTextResponse,
        responses={
            200: {"content": {"text/plain": {"example": "ok"}}},
            503: {
                "description": "The process is starting up or shutting down",
                "content": {"text/plain": {"schema": {"type": "string"}, "example": "not ready: started"}},
            },
        },
    )(readyz)
    return router


async def health(request: Request, accept: Accept) -> Response:
    """JSON, with 503 if a check fails. Clients that prefer `text/plain`, as Prometheus does, get gauges, always
    with 200."""
    health_state: HealthState = request.app.state.health_state
    response = await health_state.health()
    if prefers_exposition(accept):
        return exposition_response(accept, health_state.gauges(response), NO_STORE_HEADERS)
    code = status.HTTP_200_OK if response.status == "ok" else status.HTTP_503_SERVICE_UNAVAILABLE
    return Response(response.model_dump_json(by_alias=True), code, NO_STORE_HEADERS, "application/json")


async def get_metrics(accept: Accept) -> Response:
    """Prometheus' text format, or OpenMetrics if the client asks for it."""
    return exposition_response(accept, REGISTRY, NO_STORE_HEADERS)


async def livez() -> str:
    """Checks no dependencies: a restart does not fix a lost database."""
    return "ok"


async def readyz(
    request: Request,
    verbose: Annotated[str | None, Query(description="List the checks, as the Kubernetes API server does")] = None,
) -> PlainTextResponse:
    """Not ready until the storage is open and migrated, nor during shutdown.

    Losing the database later does not affect readiness: a 503 is better than a Service without endpoints, which refuses
    connections.
    """
    health_state: HealthState = request.app.state.health_state
    checks = health_state.readiness()
    failed = [name for name, passed in checks.items() if not passed]
    if verbose is None:
        text = f"not ready: {', '.join(failed)}" if failed else "ok"
    else:
        lines = [f"[{'+' if passed else '-'}]{name} {'ok' if passed else 'failed'}" for name, passed in checks.items()]
        text = "\n".join([*lines, f"readyz check {'failed' if failed else 'passed'}\n"])
    return PlainTextResponse(text, 503 if failed else 200)


def _memory_bytes() -> int:
    statm = Path("/proc/self/statm")  # Linux; the second field is the number of resident pages
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
