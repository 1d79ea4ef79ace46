"""The application: what it is made of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

import task_api
from task_api import docs, edge, health, problems, store, tracing
from task_api.rate_limit import RateLimit
from task_api.settings import Settings, authenticator, read_settings
from task_api.store import Store
from task_api.tasks import changes, feed, upkeep
from task_api.tasks import routes as tasks

DESCRIPTION = """
Tasks to create, find, change and follow.

Every task has a version, and its `ETag` is made of it: send it as `If-Match`, and nobody's change is overwritten. With
an `Idempotency-Key` a creation is safe to send again. Errors are problem documents (RFC 9457). Times are in UTC.
"""
TAGS = [
    {"name": "tasks", "description": "The tasks, one by one, in lists and in batches"},
    {"name": "changes", "description": "What became of them, in pages or as a stream"},
    {"name": "health", "description": "How the service is; open to everybody, but for the metrics"},
]

log = logging.getLogger(__name__)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The API as an ASGI application. Its lifespan opens and closes the storage.

    settings: those of the environment where none are given (`uvicorn --factory task_api.app:create_app`).
    """
    settings = settings or read_settings()
    tasks_store = store.from_url(
        settings.database_url.get_secret_value(),
        limits=store.Limits(
            pool_size=settings.database_pool_size,
            queue_size=settings.database_queue_size,
            seconds=settings.database_seconds,
            statement_seconds=settings.database_statement_seconds,
            lock_seconds=settings.database_lock_seconds,
        ),
        wait_seconds=settings.database_wait_seconds,
    )
    vitals = health.Vitals(store=tasks_store, revision=settings.revision)
    telemetry = tracing.config(settings.revision)
    app = FastAPI(
        title="Task Management API",
        version=task_api.__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        docs_url=None,  # FastAPI's own pages load their files from a CDN
        redoc_url=None,
        lifespan=_lifespan,
        telemetry=telemetry,
        redirect_slashes=False,  # behind a proxy the redirect would name the wrong scheme and host
        generate_unique_id_function=lambda route: route.name,  # operation ids that read well in generated clients
    )
    app.state.store = tasks_store
    app.state.feed = feed.Feed(tasks_store)
    app.state.vitals = vitals
    app.state.telemetry = telemetry
    app.state.authenticator = authenticator(settings)
    app.state.rate_limit = None if settings.rate_limit is None else RateLimit(settings.rate_limit)
    limits = edge.BodyLimits(settings.body_max_bytes, settings.body_seconds)
    app.add_middleware(edge.Edge, vitals=vitals, body_limits=limits)
    problems.install_problems(app)
    app.include_router(tasks.router)
    app.include_router(changes.router)
    app.include_router(health.router)
    docs.add_pages(app)
    _describe(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    tasks_store: Store = app.state.store
    vitals: health.Vitals = app.state.vitals
    try:
        await tasks_store.open()
        if tasks_store.kind == "memory":
            log.warning("Tasks are kept in memory and are gone when this process ends: set TASKS_DATABASE_URL")
        vitals.started = True
        background = [
            asyncio.create_task(upkeep.keep_up(tasks_store)),
            asyncio.create_task(vitals.keep_measuring()),
        ]
        yield
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)  # they may be using the storage
        app.state.feed.end()
    finally:
        vitals.started = False
        await tasks_store.close()
        await tracing.end(app.state.telemetry)


def _describe(app: FastAPI) -> None:
    """Makes the OpenAPI document say of errors what the service really answers."""
    document = app.openapi

    def with_problems() -> dict[str, Any]:
        described = document()
        schemas = described["components"]["schemas"]
        schemas.update(problems.problem_schemas())
        # FastAPI documents a 422 of its own form wherever there is a parameter. Ours say themselves when there is one.
        for path in described["paths"].values():
            for operation in path.values():
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        return described

    app.openapi = with_problems  # type: ignore[method-assign]  # the way FastAPI documents
