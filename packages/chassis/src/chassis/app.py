"""The application factory.

A request goes through connection.py, cors.py if enabled, edge.py, the service's fast path if it has one, methods.py
and FastAPI to a route; docs/develop.md has the whole request path.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, request_response
from pydantic import TypeAdapter
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp

from chassis import cors, docs, edge, health, problems, tracing
from chassis.auth.factory import create_authenticator
from chassis.body import BodyLimits
from chassis.methods import MethodsMiddleware
from chassis.rate_limit import RateLimit
from chassis.routes import Route, Router, make_strict, operation_id
from chassis.service import Service
from chassis.settings import Settings, read_settings, split_origins

log = logging.getLogger(__name__)

HEALTH_TAG = {"name": "health", "description": "Health status, probes and metrics; all but the metrics are public"}


def create_app(service_class: type[Service], settings: Settings | None = None) -> FastAPI:
    """The API of a service as an ASGI application. Its lifespan opens and closes the service.

    settings: an instance of the service's settings class; by default they are read from the environment.
    """
    settings = settings or read_settings(service_class.settings)
    service = service_class(settings)
    health_state = health.HealthState(service, revision=settings.revision)
    telemetry = tracing.telemetry_config(service, settings.revision)
    app = _Application(
        title=service.title,
        version=service.version,
        description=service.description,
        openapi_tags=[*service.tags, HEALTH_TAG],
        servers=[{"url": settings.root_path or "/"}],
        openapi_url=None,  # see docs.py; FastAPI's own pages load their assets from a CDN
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        telemetry=telemetry,
        redirect_slashes=False,  # behind a proxy the redirect would name the wrong scheme and host
        generate_unique_id_function=operation_id,
    )
    app.router.route_class = Route
    app.state.settings = settings
    app.state.service = service
    app.state.health_state = health_state
    app.state.telemetry = telemetry
    app.state.realm = service.name
    app.state.authenticator = create_authenticator(settings, scope_prefix=service.scope_prefix)
    app.state.rate_limit = None if settings.rate_limit is None else RateLimit(settings.rate_limit)
    app.state.body_limits = BodyLimits(settings.body_max_bytes, settings.body_seconds)
    problems.install_exception_handlers(app)
    service.add_to(app)
    app.include_router(health.router(service))
    docs.add_pages(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    health_state: health.HealthState = app.state.health_state
    try:
        await service.open()
        health_state.started = True
        coroutines = (*service.background(), health_state.measure_loop_lag())
        tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
        for task in tasks:
            task.add_done_callback(_log_task_failure)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)  # they may be using the storage
    finally:
        health_state.started = False
        # Concurrently: they share one second before Kubernetes may kill the process.
        await asyncio.gather(service.close(), tracing.shutdown(app.state.telemetry))


def _log_task_failure(task: asyncio.Task[None]) -> None:
    """Background tasks run until they are cancelled; one that fails would do so silently."""
    if not task.cancelled() and (error := task.exception()) is not None:
        name = getattr(task.get_coro(), "__qualname__", task.get_name())
        log.error("Background task %s stopped unexpectedly", name, exc_info=error)


class _Application(FastAPI):
    """Documents the errors as the service really sends them; EdgeMiddleware is in front of FastAPI's layers."""

    def include_router(self, router: APIRouter, **options: Any) -> None:
        """As FastAPI does, but without rebuilding the routes that a Router has at this time."""
        if not isinstance(router, Router):
            make_strict(router.routes)
        super().include_router(router, **options)
        if isinstance(router, Router) and not options and router.is_plain:
            self.router.routes[-1:] = [self._bind(route) for route in router.routes if isinstance(route, APIRoute)]

    def _bind(self, route: APIRoute) -> APIRoute:
        bound = copy.copy(route)
        bound.dependency_overrides_provider = self
        bound.app = request_response(bound.get_route_handler())
        return bound

    def build_middleware_stack(self) -> ASGIApp:
        """CORS if enabled, EdgeMiddleware, the service's `wrap_app`, MethodsMiddleware, then FastAPI's stack without
        ServerErrorMiddleware.

        EdgeMiddleware handles unexpected errors.
        """
        stack = super().build_middleware_stack()
        assert isinstance(stack, ServerErrorMiddleware)
        state = self.state
        service: Service = state.service

        def with_edge(app: ASGIApp) -> ASGIApp:
            return edge.EdgeMiddleware(
                app,
                health_state=state.health_state,
                body_limits=state.body_limits,
                slow_clients=service.metrics.slow_clients_total,
            )

        app = service.wrap_app(self, MethodsMiddleware(self, stack.app))
        origins = split_origins(state.settings.cors_origins)
        return cors.with_cors(origins, service.exposed_headers, app, with_edge) if origins else with_edge(app)

    def openapi(self) -> dict[str, Any]:
        """FastAPI's document, with our problems instead of its own errors."""
        document = super().openapi()
        schemas = document["components"]["schemas"]
        schemas.update(problems.problem_schemas())
        # FastAPI documents its own 422 for every operation with a parameter. Our routes declare theirs.
        for path in document["paths"].values():
            for operation in path.values():
                operation.setdefault("security", [])  # explicit: no authentication is intended
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        # FastAPI removes nulls from examples, which then lack members.
        for route in self.routes:
            if isinstance(route, APIRoute) and isinstance(route.response_model, type):
                full = TypeAdapter(route.response_model).json_schema(mode="serialization")
                for name, schema in {str(full.get("title")): full, **full.get("$defs", {})}.items():
                    if name in schemas and "examples" in schema:
                        schemas[name]["examples"] = schema["examples"]
        return document
