"""Is the service well? /health tells people and Prometheus, /livez and /readyz Kubernetes; /metrics has all figures."""

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
from chassis.exposition import exposition, is_preferred
from chassis.problems import problem_responses
from chassis.routes import Router
from chassis.service import HealthTexts, Service

TICK_SECONDS = 0.5

PROBES = {"/health", "/metrics", "/livez", "/readyz"}
"""Asked for by machines, every few seconds: without traces, and in the log only when they fail."""
NOT_TO_BE_KEPT = {"Vary": "Accept", "Cache-Control": "no-store"}


class Answer(BaseModel):
    # No docstring: it would be in the OpenAPI document.

    status: Literal["ok", "degraded"]
    version: str = Field(description="The release")
    revision: str = Field(description="The build: a commit, or a hash of the sources")
    uptime_seconds: float = Field(description="Since this process began")
    total: int | None
    memory_bytes: int = Field(description="Resident memory of this process (on macOS its highest so far)")
    storage: str
    checks: dict[str, Check]


@cache  # asked for twice by each app
def model(texts: HealthTexts) -> type[Answer]:
    """The answer of /health, as this service's is called and explained."""
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

    class Health(Answer):
        model_config = ConfigDict(json_schema_extra={"examples": [example]})

        total: int | None = Field(serialization_alias=total_name, description=texts.total, exclude=not texts.noun)
        storage: str = Field(description=texts.storage)

    return Health


class Vitals:
    """What is known of how one running app is. `started` and `draining` are set by who starts and stops it."""

    def __init__(self, service: Service, *, revision: str) -> None:
        self._service = service
        self._model = model(service.health)
        self._revision = revision
        self._began = time.monotonic()
        self.started = False
        """Whether the service was opened, its storage with it."""
        self.draining = False
        """Whether the process was told to end: it still answers, and wants no new clients."""
        build_info = service.metrics.build_info
        build_info.clear()
        python = ".".join(map(str, sys.version_info[:3]))
        build_info.labels(service.version, revision, python, service.storage).set(1)

    async def health(self) -> Answer:
        """Asks the service; never raises because of what is wrong with it."""
        total, checks = await self._service.condition()
        return self._model(
            status="degraded" if any(check.status == "failed" for check in checks.values()) else "ok",
            version=self._service.version,
            revision=self._revision,
            uptime_seconds=round(time.monotonic() - self._began, 3),
            total=total,
            memory_bytes=_memory_bytes(),
            storage=self._service.storage,
            checks=checks,
        )

    def gauges(self, health: Answer) -> CollectorRegistry:
        """The same for Prometheus."""
        registry, namespace, texts = CollectorRegistry(), self._service.metrics.namespace, self._service.health
        for name, text, value in (
            ("health_status", "1 when the service is well, 0 when it is degraded", float(health.status == "ok")),
            ("uptime_seconds", "Since the process began", health.uptime_seconds),
            (texts.noun, texts.gauge, health.total if texts.noun else None),
            ("memory_bytes", "Resident memory of the process", health.memory_bytes),
        ):
            if value is not None:
                Gauge(f"{namespace}_{name}", text, registry=registry).set(value)
        return registry

    def readiness(self) -> dict[str, bool]:
        """What has to hold for the process to be sent requests.

        Not that the storage answers: all pods lose it together, and an empty Service refuses connections where a pod
        would have answered 503 with Retry-After.
        """
        return {"started": self.started, "not-draining": not self.draining}

    async def keep_measuring(self) -> None:
        """Measures how late the event loop is. Never ends."""
        loop, lag = asyncio.get_running_loop(), self._service.metrics.loop_lag_seconds
        while True:
            due = loop.time() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            lag.observe(max(0.0, loop.time() - due))


async def _accept(request: Request) -> str:
    """The header, of which each line is as good as any other (RFC 9110, 5.2)."""
    return ",".join(request.headers.getlist("accept"))


Accept = Annotated[str, Depends(_accept)]


def router(service: Service) -> Router:
    """The four routes, as this service's document explains them."""
    return _router(service.health, service.metrics.namespace)


@cache  # to make them is half of what it takes to make an app
def _router(texts: HealthTexts, namespace: str) -> Router:
    answer = model(texts)
    figure = {"text/plain": {"schema": {"type": "string"}, "example": f"{namespace}_health_status 1.0\n"}}
    # Not chassis.routes.Route: monitors put what they like behind a path, and a probe that is refused ends the pod.
    router = Router(tags=["health"], route_class=APIRoute)
    router.get(
        "/health",
        summary="How the service is",
        response_model=answer,
        responses={200: {"content": figure}, 503: {"model": answer, "description": texts.degraded}},
    )(health)
    router.get(
        "/metrics",
        summary="What the service counts, for Prometheus",
        dependencies=[Depends(requires("read"))],
        response_class=Response,
        responses={200: {"content": figure}, **problem_responses(401, 403, 429, 503)},
    )(get_metrics)
    router.get(
        "/livez",
        summary="Does the process answer?",
        response_class=PlainTextResponse,
        responses={200: {"content": {"text/plain": {"example": "ok"}}}},
    )(livez)
    router.get(
        "/readyz",
        summary="May it get requests?",
        response_class=PlainTextResponse,
        responses={
            200: {"content": {"text/plain": {"example": "ok"}}},
            503: {
                "description": "It starts or ends",
                "content": {"text/plain": {"schema": {"type": "string"}, "example": "not ready: started"}},
            },
        },
    )(readyz)
    return router


async def health(request: Request, accept: Accept) -> Response:
    """JSON for people, 503 when the storage does not answer; for who prefers `text/plain`, as Prometheus does, four
    gauges, always with 200."""
    vitals: Vitals = request.app.state.vitals
    answer = await vitals.health()
    if is_preferred(accept):
        return exposition(accept, vitals.gauges(answer), NOT_TO_BE_KEPT)
    code = status.HTTP_200_OK if answer.status == "ok" else status.HTTP_503_SERVICE_UNAVAILABLE
    return Response(answer.model_dump_json(by_alias=True), code, NOT_TO_BE_KEPT, "application/json")


async def get_metrics(accept: Accept) -> Response:
    """Prometheus' text format, or OpenMetrics for who asks for it."""
    return exposition(accept, REGISTRY, NOT_TO_BE_KEPT)


async def livez() -> str:
    """Asks nothing else: a restart does not repair a lost database."""
    return "ok"


async def readyz(
    request: Request,
    verbose: Annotated[str | None, Query(description="List the checks, as Kubernetes' API does")] = None,
) -> PlainTextResponse:
    """Not while the storage is opened and migrated, and not once the process was told to end.

    A database lost later leaves it ready: answering 503 beats an empty Service, where clients are refused.
    """
    vitals: Vitals = request.app.state.vitals
    checks = vitals.readiness()
    failed = [name for name, holds in checks.items() if not holds]
    if verbose is None:
        text = f"not ready: {', '.join(failed)}" if failed else "ok"
    else:
        lines = [f"[{'+' if holds else '-'}]{name} {'ok' if holds else 'failed'}" for name, holds in checks.items()]
        text = "\n".join([*lines, f"readyz check {'failed' if failed else 'passed'}\n"])
    return PlainTextResponse(text, 503 if failed else 200)


def _memory_bytes() -> int:
    statm = Path("/proc/self/statm")  # Linux; its second figure is the resident pages
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
