"""The definition of this service: everything that the chassis, which runs it, needs to know."""

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
from task_api.tasks import changes, counts, fast_path, feed, problems, routes, upkeep

log = logging.getLogger(__name__)


class TaskApi(PostgresService):
    """The task service of one running app: its store and its change feed."""

    name = "task-api"
    version = task_api.__version__
    title = "Task Management API"
    description = """
Create, find, update and follow tasks.

Every task has a version, from which its `ETag` is derived: send it as `If-Match` to avoid lost updates. With an
`Idempotency-Key` writes are safe to retry. Errors are problem documents (RFC 9457). Timestamps are in UTC.
"""
    tags = (
        {"name": "tasks", "description": "Tasks: single, in lists and in batches"},
        {"name": "changes", "description": "The change feed, in pages or as a stream"},
    )
    settings = Settings
    metrics = Metrics("task_api")
    health = HealthTexts(
        noun="tasks",
        total="Number of tasks, counted every five seconds, estimated above 10,000; null if unknown",
        gauge="Tasks in the storage; above 10,000 an estimate",
        storage="memory, sqlite or postgresql",
        degraded="The storage is not responding",
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
        """Adds the routes to `app`, their dependencies to its state, and the exception handlers."""
        app.state.store = self.store
        app.state.feed = self._feed
        app.state.parsed_queries = routes.ParsedQueryCache()
        problems.install_task_problems(app)
        app.include_router(routes.router)
        app.include_router(counts.router)
        app.include_router(changes.router)

    def wrap_app(self, app: FastAPI, rest: ASGIApp) -> ASGIApp:
        """Serves the most frequent requests without `rest`, the layers of `app` behind its edge middleware."""
        return fast_path.FastPath(app, rest)

    async def open(self) -> None:
        """Opens the store and migrates its schema, before the first request. Raises StoreUnavailable."""
        await super().open()
        if self.storage == "memory":
            log.warning("Tasks are stored in memory and are lost when this process exits: set TASKS_DATABASE_URL")

    def background(self) -> list[Coroutine[None, None, None]]:
        """The background tasks, which run until cancelled."""
        return [*super().background(), upkeep.purge_periodically(self.store), feed.measure_lag(self.store)]

    def end_streams(self) -> None:
        """Ends the change streams, which do not end on their own."""
        self._feed.end()

    async def check_health(self) -> tuple[int | None, dict[str, Check]]:
        """The number of tasks, and the health of the storage; never raises StoreUnavailable."""
        total, checks = await super().check_health()
        if self.storage == "memory" and checks["storage"] == OK:
            detail = "tasks are stored in memory and are lost when the service stops; set TASKS_DATABASE_URL"
            checks["storage"] = Check(status="ok", detail=detail)
        return total, checks
