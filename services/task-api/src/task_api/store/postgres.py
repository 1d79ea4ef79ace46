"""Tasks in PostgreSQL: what replicas share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg

from task_api.store.migrations import migrations
from task_api.store.protocol import StoreUnavailable
from task_api.tasks.models import Task

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

T = TypeVar("T")

log = logging.getLogger(__name__)

COLUMNS = "id, title, description, status, created_at, updated_at, completed_at, version"

CONNECT_SECONDS = 5.0
COMMAND_SECONDS = 5.0
CLOSE_SECONDS = 1.0
"""asyncpg sets no TCP keepalive: without these a half-open connection blocks its caller for ever
(https://github.com/MagicStack/asyncpg/issues/421 and its like)."""

MIGRATION_LOCK = 0x7461736B  # "task" in ASCII: any number that nothing else in this database locks
MIGRATION_WAIT_SECONDS = 60.0

UNREACHABLE = (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)
"""A server that is starting, stopping or gone, or a name that DNS does not know yet."""

BROKEN_CONNECTION = (asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg says of a pooled connection that the server has just closed: which of the two depends on how much
of the server's farewell it has read."""


class PostgresStore:
    kind = "postgresql"

    def __init__(self, url: str, *, pool_size: int, wait_seconds: float) -> None:
        self._url = url
        self._pool_size = pool_size
        self._wait_seconds = wait_seconds
        self._pool: Pool | None = None

    async def open(self) -> None:
        parts = urlsplit(self._url)
        where = f"{parts.hostname}:{parts.port or 5432}{parts.path}"  # without user and password: this is printed
        deadline = time.monotonic() + self._wait_seconds
        while True:
            try:
                self._pool = await self._connect()
                return
            except UNREACHABLE as error:
                if time.monotonic() >= deadline:
                    raise StoreUnavailable(
                        f"PostgreSQL at {where} cannot be reached: {_reason(error)}. "
                        "Is it running, and does TASKS_DATABASE_URL name the right host and port?"
                    ) from error
                log.warning("PostgreSQL at %s does not answer yet (%s); trying again", where, _reason(error))
                await asyncio.sleep(1)
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                raise StoreUnavailable(
                    f"PostgreSQL at {where} refused: {_reason(error)}. "
                    "Check user, password and database name in TASKS_DATABASE_URL."
                ) from error

    async def close(self) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            try:
                await asyncio.wait_for(pool.close(), CLOSE_SECONDS)
            except TimeoutError:
                pool.terminate()

    async def ping(self) -> None:
        await self._run(lambda db: db.fetchval("SELECT 1"))

    async def add(self, task: Task) -> None:
        insert = f"INSERT INTO tasks ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
        await self._run(lambda db: db.execute(insert, *_row(task)))

    async def get(self, task_id: UUID) -> Task | None:
        row = await self._run(lambda db: db.fetchrow(f"SELECT {COLUMNS} FROM tasks WHERE id = $1", task_id))
        return None if row is None else _task(row)

    async def page(self, *, size: int, before: UUID | None) -> list[Task]:
        where, values = ("", [size]) if before is None else ("WHERE id < $2", [size, before])
        select = f"SELECT {COLUMNS} FROM tasks {where} ORDER BY id DESC LIMIT $1"
        return [_task(row) for row in await self._run(lambda db: db.fetch(select, *values))]

    async def replace(self, task: Task) -> bool:
        update = (
            "UPDATE tasks SET title = $2, description = $3, status = $4, created_at = $5, updated_at = $6,"
            " completed_at = $7, version = $8 WHERE id = $1 AND version = $8 - 1"
        )
        return await self._run(lambda db: db.execute(update, *_row(task))) == "UPDATE 1"

    async def remove(self, task_id: UUID) -> bool:
        return await self._run(lambda db: db.execute("DELETE FROM tasks WHERE id = $1", task_id)) == "DELETE 1"

    async def count(self) -> int:
        return int(await self._run(lambda db: db.fetchval("SELECT count(*) FROM tasks")))

    async def _run(self, work: Callable[[Pool], Coroutine[Any, Any, T]]) -> T:
        """Does `work`, one statement on one connection, which is then a transaction of its own."""
        assert self._pool is not None, "the store is not open"
        try:
            return await work(self._pool)
        except (*UNREACHABLE, *BROKEN_CONNECTION) as error:
            raise StoreUnavailable(f"PostgreSQL does not answer: {_reason(error)}") from error

    async def _connect(self) -> Pool:
        await self._migrate()
        return await asyncpg.create_pool(
            self._url,
            # No floor: asyncpg would keep it with a task that logs a traceback per attempt while the server is away.
            min_size=0,
            max_size=self._pool_size,
            timeout=CONNECT_SECONDS,
            command_timeout=COMMAND_SECONDS,
            connection_class=_Connection,
            server_settings={"application_name": "task-api"},
        )

    async def _migrate(self) -> None:
        """Applies what is missing, on a connection of its own: pods that start together take turns by its lock."""
        connection = await asyncpg.connect(self._url, timeout=CONNECT_SECONDS)
        try:
            wanted = migrations("postgres")
            if {m.number for m in wanted} <= await self._applied(connection):
                return
            await connection.execute(f"SET lock_timeout = '{MIGRATION_WAIT_SECONDS:.0f}s'")
            await connection.execute(f"SELECT pg_advisory_lock({MIGRATION_LOCK})")
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_migrations"
                " (number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            applied = await self._applied(connection)
            for migration in wanted:
                if migration.number in applied:
                    continue
                async with connection.transaction():
                    await connection.execute(migration.sql)
                    await connection.execute(
                        "INSERT INTO schema_migrations (number, name) VALUES ($1, $2)", migration.number, migration.name
                    )
                log.info("Applied migration %04d %s", migration.number, migration.name)
        finally:
            await connection.close(timeout=CONNECT_SECONDS)  # the lock goes with the session

    @staticmethod
    async def _applied(connection: asyncpg.Connection[asyncpg.Record]) -> set[int]:
        if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
            return set()
        return {row["number"] for row in await connection.fetch("SELECT number FROM schema_migrations")}


class _Connection(asyncpg.Connection):
    """A connection that is given back as it is.

    asyncpg sends `RESET ALL` and more at each release: a second round trip for every request
    (https://github.com/MagicStack/asyncpg/issues/780). Nothing here changes a session's state.
    """

    def get_reset_query(self) -> str:
        return ""


def _row(task: Task) -> tuple[object, ...]:
    return (
        task.id,
        task.title,
        task.description,
        task.status,
        task.created_at,
        task.updated_at,
        task.completed_at,
        task.version,
    )


def _task(row: asyncpg.Record) -> Task:
    return Task(**dict(row))


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
