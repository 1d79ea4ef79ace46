"""What this service is: all that the chassis, which runs it, knows of it stands here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.types import ASGIApp

import task_api
from chassis.check import Check
from chassis.metrics import Metrics
from chassis.service import Command, HealthTexts, Service
from task_api import store
from task_api.settings import Settings
from task_api.store import StoreBusy, StoreUnavailable
from task_api.tasks import changes, direct, feed, problems, routes, upkeep

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

COUNT_SECONDS = 5.0
"""How often tasks are counted, whoever asks for their number."""
PING_SECONDS = 1.0
"""How long an answer of the storage is taken for the next one: /health is open to everybody."""

OK = Check(status="ok")

log = logging.getLogger(__name__)


async def _migrate(settings: Settings) -> None:
    service = TaskApi(settings)
    try:
        await service.open()  # opening brings the schema up to date
    finally:
        await service.close()


class TaskApi(Service):
    """The tasks of one running app: where they are kept and who follows their changes."""

    name = "task-api"
    version = task_api.__version__
    title = "Task Management API"
    description = """
Tasks to create, find, change and follow.

Every task has a version, and its `ETag` is made of it: send it as `If-Match`, and nobody's change is overwritten. With
an `Idempotency-Key` a creation is safe to send again. Errors are problem documents (RFC 9457). Times are in UTC.
"""
    tags = (
        {"name": "tasks", "description": "The tasks, one by one, in lists and in batches"},
        {"name": "changes", "description": "What became of them, in pages or as a stream"},
    )
    settings = Settings
    metrics = Metrics("task_api")
    health = HealthTexts(
        noun="tasks",
        total="Tasks in the storage, counted every five seconds, above 10,000 an estimate; null when not known",
        gauge="Tasks in the storage; above 10,000 an estimate",
        storage="memory, sqlite or postgresql",
        degraded="The storage does not answer",
        example={"storage": "postgresql", "checks": {"storage": {"status": "ok", "detail": ""}}},
    )
    credential_prefix = "tsk_"
    scope_prefix = "tasks"
    cannot_open = (StoreUnavailable,)
    commands = (Command("migrate", "bring the schema of TASKS_DATABASE_URL up to date and end", _migrate),)

    def __init__(self, settings: Settings) -> None:
        self._store = store.from_url(
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
        self.storage = self._store.kind
        self._feed = feed.Feed(self._store)
        self._total: int | None = None
        self._counted = OK
        self._ping: asyncio.Task[Check] | None = None
        self._pinged_at = 0.0

    def add_to(self, app: FastAPI) -> None:
        """Gives `app` its routes, what they ask for in its state, and the problems that may come from any of them."""
        app.state.store = self._store
        app.state.feed = self._feed
        problems.install_task_problems(app)
        app.include_router(routes.router)
        app.include_router(changes.router)

    def shortcut(self, app: FastAPI, rest: ASGIApp) -> ASGIApp:
        """Answers what is asked for most without `rest`, which is all of `app` behind its edge."""
        return direct.Direct(app, rest)

    async def open(self) -> None:
        """Before the first request; brings the schema up to date. Raises StoreUnavailable."""
        await self._store.open()
        await self._count()
        if self._store.kind == "memory":
            log.warning("Tasks are kept in memory and are gone when this process ends: set TASKS_DATABASE_URL")

    def background(self) -> list[Coroutine[None, None, None]]:
        """What goes on while it is open, until it is cancelled."""
        return [self._keep_counting(), upkeep.keep_up(self._store), feed.keep_measuring(self._store)]

    def end_streams(self) -> None:
        """Ends answers that would not end by themselves."""
        self._feed.end()

    async def close(self) -> None:
        """After the last request, or where it could not be opened."""
        await self._store.close()

    async def condition(self) -> tuple[int | None, dict[str, Check]]:
        """How many tasks there are, and whether the storage answers; never raises because of it."""
        now = time.monotonic()
        if self._ping is None or (self._ping.done() and now - self._pinged_at >= PING_SECONDS):
            self._pinged_at = now
            self._ping = asyncio.create_task(_tried(self._store.ping))
        answers = await asyncio.shield(self._ping)  # who asks and goes away does not end it for the others
        storage = self._counted if answers == OK else answers
        if storage == OK and self._store.kind == "memory":
            detail = "tasks are kept in memory and are gone when the service stops; set TASKS_DATABASE_URL"
            storage = Check(status="ok", detail=detail)
        return None if storage.status == "failed" else self._total, {"storage": storage}

    def trace(self, provider: TracerProvider) -> None:
        """Makes a span of each statement to PostgreSQL."""
        from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

        AsyncPGInstrumentor().instrument(tracer_provider=provider)

    async def _keep_counting(self) -> None:
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            await self._count()

    async def _count(self) -> None:
        total: int | None = None

        async def count() -> None:
            nonlocal total
            total = await self._store.count()

        self._counted = await _tried(count)
        self._total = total


async def _tried(work: Callable[[], Awaitable[None]]) -> Check:
    """Whether the storage does it; never raises because of what is wrong with it."""
    try:
        await work()
    except StoreBusy as error:  # it answers others
        return Check(status="ok", detail=str(error))
    except StoreUnavailable as error:
        return Check(status="failed", detail=str(error))
    except Exception:  # a table or a right that is missing, or a defect of ours
        log.exception("The storage fails in a way that nobody foresaw")
        return Check(status="failed", detail="the storage fails in a way that nobody foresaw; the log has it")
    return OK
