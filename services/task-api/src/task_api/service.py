"""What this service is: all that the chassis, which runs it, knows of it stands here."""

from __future__ import annotations

import logging
from collections.abc import Coroutine

from fastapi import FastAPI
from starlette.types import ASGIApp

import task_api
from chassis.check import Check
from chassis.metrics import Metrics
from chassis.postgres.command_line import migrate_command
from chassis.postgres.service import PostgresService
from chassis.service import HealthTexts
from chassis.storage_health import OK
from task_api import store
from task_api.command_line import BACKUP, RESTORE
from task_api.settings import Settings
from task_api.tasks import changes, counts, direct, feed, problems, routes, upkeep

log = logging.getLogger(__name__)


class TaskApi(PostgresService):
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
    commands = (migrate_command(Settings), BACKUP, RESTORE)
    exposed_headers = ("Idempotency-Replayed",)

    def __init__(self, settings: Settings) -> None:
        self.store = store.from_url(
            settings.database_url.get_secret_value(),
            limits=settings.limits,
            wait_seconds=settings.database_wait_seconds,
        )
        super().__init__(self.store)
        self.storage = self.store.kind
        self._feed = feed.Feed(self.store)

    def add_to(self, app: FastAPI) -> None:
        """Gives `app` its routes, what they ask for in its state, and the problems that may come from any of them."""
        app.state.store = self.store
        app.state.feed = self._feed
        problems.install_task_problems(app)
        app.include_router(routes.router)
        app.include_router(counts.router)
        app.include_router(changes.router)

    def wrap_app(self, app: FastAPI, rest: ASGIApp) -> ASGIApp:
        """Answers what is asked for most without `rest`, which is all of `app` behind its edge."""
        return direct.Direct(app, rest)

    async def open(self) -> None:
        """Before the first request; brings the schema up to date. Raises StoreUnavailable."""
        await super().open()
        if self.storage == "memory":
            log.warning("Tasks are kept in memory and are gone when this process ends: set TASKS_DATABASE_URL")

    def background(self) -> list[Coroutine[None, None, None]]:
        """What goes on while it is open, until it is cancelled."""
        return [*super().background(), upkeep.keep_up(self.store), feed.keep_measuring(self.store)]

    def end_streams(self) -> None:
        """Ends answers that would not end by themselves."""
        self._feed.end()

    async def check_health(self) -> tuple[int | None, dict[str, Check]]:
        """How many tasks there are, and whether the storage answers; never raises because of it."""
        total, checks = await super().check_health()
        if self.storage == "memory" and checks["storage"] == OK:
            detail = "tasks are kept in memory and are gone when the service stops; set TASKS_DATABASE_URL"
            checks["storage"] = Check(status="ok", detail=detail)
        return total, checks
