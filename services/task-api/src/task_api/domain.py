"""What this service is for: tasks. All that the modules beside this one know of them stands here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Annotated

from fastapi import FastAPI
from pydantic import AfterValidator, Field, SecretStr, ValidationInfo
from pydantic.config import JsonDict
from pydantic_settings import BaseSettings
from starlette.types import ASGIApp

from chassis.check import Check
from task_api import store
from task_api.store import StoreBusy, StoreUnavailable
from task_api.tasks import changes, direct, feed, problems, routes, upkeep

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

TITLE = "Task Management API"
DESCRIPTION = """
Tasks to create, find, change and follow.

Every task has a version, and its `ETag` is made of it: send it as `If-Match`, and nobody's change is overwritten. With
an `Idempotency-Key` a creation is safe to send again. Errors are problem documents (RFC 9457). Times are in UTC.
"""
TAGS = [
    {"name": "tasks", "description": "The tasks, one by one, in lists and in batches"},
    {"name": "changes", "description": "What became of them, in pages or as a stream"},
]

TOTAL = "tasks_total"
TOTAL_IS = "Tasks in the storage, counted every five seconds, above 10,000 an estimate; null when not known"
TOTAL_GAUGE = ("task_api_tasks", "Tasks in the storage; above 10,000 an estimate")
STORAGE_IS = "memory, sqlite or postgresql"
DEGRADED_IS = "The storage does not answer"
HEALTH_EXAMPLE: JsonDict = {"storage": "postgresql", "checks": {"storage": {"status": "ok", "detail": ""}}}

COUNT_SECONDS = 5.0
"""How often tasks are counted, whoever asks for their number."""
PING_SECONDS = 1.0
"""How long an answer of the storage is taken for the next one: /health is open to everybody."""

OK = Check(status="ok")

log = logging.getLogger(__name__)


def _storage_url(url: SecretStr) -> SecretStr:
    store.check_url(url.get_secret_value())
    return url


def _within(setting: str) -> AfterValidator:
    """A time that has to be over before another one is."""

    def check(seconds: float, given: ValidationInfo) -> float:
        most = given.data.get(setting)
        if most is not None and seconds > most:
            raise ValueError(f"{seconds:g} is more than TASKS_{setting.upper()}, which is {most:g}")
        return seconds

    return AfterValidator(check)


Seconds = Annotated[float, Field(gt=0, le=300)]


class DomainSettings(BaseSettings):
    """Those that only tasks need."""

    database_url: Annotated[SecretStr, AfterValidator(_storage_url)] = Field(
        default=SecretStr("memory://"),
        description="storage: memory://, sqlite:///relative/path, sqlite:////absolute/path or postgresql://user:password@host/name",
    )
    database_pool_size: int = Field(
        default=5,
        ge=1,
        le=100,
        description="number of connections to PostgreSQL; all pods together must stay below its max_connections",
    )
    database_queue_size: int = Field(
        default=100, ge=0, le=10_000, description="number of requests that may wait for the storage; more get a 503"
    )
    database_wait_seconds: float = Field(
        default=60, ge=0, description="seconds to wait at start for a PostgreSQL that does not answer yet"
    )
    database_seconds: Seconds = Field(
        default=5, description="seconds that a piece of work may take in PostgreSQL, with waiting and trying again"
    )
    database_statement_seconds: Annotated[Seconds, _within("database_seconds")] = Field(
        default=2,
        validate_default=True,
        description="seconds that a statement may take (PostgreSQL's statement_timeout)",
    )
    database_lock_seconds: Annotated[Seconds, _within("database_statement_seconds")] = Field(
        default=1,
        validate_default=True,
        description="seconds that a statement may wait for a lock (PostgreSQL's lock_timeout)",
    )


class Domain:
    """The tasks of one running app: where they are kept and who follows their changes. Opens nothing by itself."""

    def __init__(self, settings: DomainSettings) -> None:
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
        self._feed = feed.Feed(self._store)
        self._total: int | None = None
        self._counted = OK
        self._ping: asyncio.Task[Check] | None = None
        self._pinged_at = 0.0

    @property
    def storage(self) -> str:
        """What /health and task_api_build_info call it."""
        return self._store.kind

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
        """Before the first request; brings the schema up to date. Raises CannotOpen."""
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


CannotOpen = StoreUnavailable
"""What ends the start with a line, not with a traceback."""


async def _migrate(settings: DomainSettings) -> None:
    domain = Domain(settings)
    try:
        await domain.open()  # opening brings the schema up to date
    finally:
        await domain.close()


COMMANDS: dict[str, tuple[str, Callable[[DomainSettings], Coroutine[None, None, None]]]] = {
    "migrate": ("bring the schema of TASKS_DATABASE_URL up to date and end", _migrate)
}
"""Those of the command line beside the ones that every service has: their help, and what they do."""


def trace(provider: TracerProvider) -> None:
    """Makes a span of each statement to PostgreSQL."""
    from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

    AsyncPGInstrumentor().instrument(tracer_provider=provider)
