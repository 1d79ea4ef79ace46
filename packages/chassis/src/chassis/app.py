"""The application: what it is made of.

A request comes in by connection.py and goes through edge.py and FastAPI to a route; docs/develop.md has the whole way.
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
from chassis.methods import Methods
from chassis.rate_limit import RateLimit
from chassis.routes import Route, Router, make_strict, operation_id
from chassis.service import Service
from chassis.settings import Settings, read_settings, split_origins

log = logging.getLogger(__name__)

HEALTH_TAG = {"name": "health", "description": "How the service is; open to everybody, except for the metrics"}


def create_app(service: type[Service], settings: Settings | None = None) -> FastAPI:
    """The API of a service as an ASGI application. Its lifespan opens and closes the service.

    settings: of the service's class; those of the environment where none are given.
    """
    settings = settings or read_settings(service.settings)
    served = service(settings)
    vitals = health.Vitals(served, revision=settings.revision)
    telemetry = tracing.config(served, settings.revision)
    app = _Application(
        title=served.title,
        version=served.version,
        description=served.description,
        openapi_tags=[*served.tags, HEALTH_TAG],
        servers=[{"url": settings.root_path or "/"}],
        docs_url=None,  # FastAPI's own pages load their files from a CDN
        redoc_url=None,
        lifespan=_lifespan,
        telemetry=telemetry,
        redirect_slashes=False,  # behind a proxy the redirect would name the wrong scheme and host
        generate_unique_id_function=operation_id,
    )
    app.router.route_class = Route
    app.state.settings = settings
    app.state.service = served
    app.state.vitals = vitals
    app.state.telemetry = telemetry
    app.state.realm = served.name
    app.state.authenticator = create_authenticator(settings, scope_prefix=served.scope_prefix)
    app.state.rate_limit = None if settings.rate_limit is None else RateLimit(settings.rate_limit)
    app.state.body_limits = edge.BodyLimits(settings.body_max_bytes, settings.body_seconds)
    problems.install_problems(app)
    served.add_to(app)
    app.include_router(health.router(served))
    docs.add_pages(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    served: Service = app.state.service
    vitals: health.Vitals = app.state.vitals
    try:
        await served.open()
        vitals.started = True
        background = [asyncio.create_task(work) for work in (*served.background(), vitals.keep_measuring())]
        for work in background:
            work.add_done_callback(_note_end)
        yield
        for work in background:
            work.cancel()
        await asyncio.gather(*background, return_exceptions=True)  # they may be using the storage
        served.end_streams()
    finally:
        vitals.started = False
        # Side by side, since they have one second together before Kubernetes may kill the process.
        await asyncio.gather(served.close(), tracing.end(app.state.telemetry))


def _note_end(work: asyncio.Task[None]) -> None:
    """What goes on in the background ends by being cancelled, or by a defect that nobody would hear of."""
    if not work.cancelled() and (error := work.exception()) is not None:
        log.error("%s ended, and is not done any more", work.get_coro(), exc_info=error)


class _Application(FastAPI):
    """Its OpenAPI document says of errors what the service really answers, and Edge comes before all other layers."""

    def include_router(self, router: APIRouter, **given: Any) -> None:
        """As FastAPI does, but the routes that a Router has now are not made again."""
        if not isinstance(router, Router):
            make_strict(router.routes)
        super().include_router(router, **given)
        if isinstance(router, Router) and not given and router.is_plain:
            self.router.routes[-1:] = [self._own(route) for route in router.routes if isinstance(route, APIRoute)]

    def _own(self, route: APIRoute) -> APIRoute:
        own = copy.copy(route)
        own.dependency_overrides_provider = self
        own.app = request_response(own.get_route_handler())
        return own

    def build_middleware_stack(self) -> ASGIApp:
        """Edge and the service's shortcut, then what FastAPI makes of the application.

        Of that, ServerErrorMiddleware is left out: Edge answers what nobody expected.
        """
        stack = super().build_middleware_stack()
        assert isinstance(stack, ServerErrorMiddleware)
        state = self.state
        service: Service = state.service

        def around(app: ASGIApp) -> ASGIApp:
            return edge.Edge(
                app,
                vitals=state.vitals,
                body_limits=state.body_limits,
                slow_clients=service.metrics.slow_clients_total,
            )

        app = service.shortcut(self, Methods(self, stack.app))
        origins = split_origins(state.settings.cors_origins)
        return cors.allowing(origins, service.exposed_headers, app, around) if origins else around(app)

    def openapi(self) -> dict[str, Any]:
        """As FastAPI documents it, with our problems in the place of its own errors."""
        described = super().openapi()
        schemas = described["components"]["schemas"]
        schemas.update(problems.problem_schemas())
        # FastAPI documents a 422 of its own form wherever there is a parameter. Ours say themselves when there is one.
        for path in described["paths"].values():
            for operation in path.values():
                operation.setdefault("security", [])  # said, so that nobody takes it for forgotten
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        # FastAPI leaves null out of examples, too, which then lack members.
        for route in self.routes:
            if isinstance(route, APIRoute) and isinstance(route.response_model, type):
                whole = TypeAdapter(route.response_model).json_schema(mode="serialization")
                for name, schema in {str(whole.get("title")): whole, **whole.get("$defs", {})}.items():
                    if name in schemas and "examples" in schema:
                        schemas[name]["examples"] = schema["examples"]
        return described
