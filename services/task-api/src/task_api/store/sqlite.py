"""Tasks in a SQLite file: what a laptop uses, and all that one process needs."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from task_api.store.migrations import migrations
from task_api.store.protocol import StoreUnavailable
from task_api.tasks.models import Status, Task

T = TypeVar("T")

COLUMNS = "id, title, description, status, created_at, updated_at, completed_at, version"
BUSY_SECONDS = 5.0
"""How long to wait for another process that writes to the same file."""


class SQLiteStore:
    """One connection, used by one thread of its own: SQLite has one writer at a time anyway.

    WAL with synchronous=FULL: a write that returned survives the process and the machine
    (https://www.sqlite.org/pragma.html#pragma_synchronous).
    """

    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        try:
            self._connection = await self._in_thread(self._connect)
        except (OSError, sqlite3.Error) as error:
            await self.close()
            reason = error.strerror if isinstance(error, OSError) else error
            raise StoreUnavailable(
                f"Cannot open the SQLite file {self._path.absolute()}: {reason}. "
                "Choose a file in a folder that you may write to: TASKS_DATABASE_URL=sqlite:///folder/tasks.db"
            ) from error

    async def close(self) -> None:
        if self._connection is not None:
            await self._in_thread(self._connection.close)
            self._connection = None
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    async def ping(self) -> None:
        await self._run(lambda db: db.execute("SELECT 1").fetchone())

    async def add(self, task: Task) -> None:
        await self._run(
            lambda db: db.execute(f"INSERT INTO tasks ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _row(task))
        )

    async def get(self, task_id: UUID) -> Task | None:
        row = await self._run(
            lambda db: db.execute(f"SELECT {COLUMNS} FROM tasks WHERE id = ?", (str(task_id),)).fetchone()
        )
        return None if row is None else _task(row)

    async def page(self, *, size: int, before: UUID | None) -> list[Task]:
        where, values = ("WHERE id < ?", (str(before), size)) if before else ("", (size,))
        rows = await self._run(
            lambda db: db.execute(f"SELECT {COLUMNS} FROM tasks {where} ORDER BY id DESC LIMIT ?", values).fetchall()
        )
        return [_task(row) for row in rows]

    async def replace(self, task: Task) -> bool:
        id_, *changed = _row(task)
        return await self._run(
            lambda db: (
                db.execute(
                    "UPDATE tasks SET title = ?, description = ?, status = ?, created_at = ?, updated_at = ?,"
                    " completed_at = ?, version = ? WHERE id = ? AND version = ?",
                    (*changed, id_, task.version - 1),
                ).rowcount
                == 1
            )
        )

    async def remove(self, task_id: UUID) -> bool:
        return await self._run(lambda db: db.execute("DELETE FROM tasks WHERE id = ?", (str(task_id),)).rowcount == 1)

    async def count(self) -> int:
        return await self._run(lambda db: int(db.execute("SELECT count(*) FROM tasks").fetchone()[0]))

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            _use_wal(db)
            db.execute("PRAGMA synchronous = FULL")
            _migrate(db)
        except BaseException:
            db.close()
            raise
        return db

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Does `work` in the store's thread: one hop per unit of work, each statement its own transaction."""
        assert self._connection is not None, "the store is not open"
        connection = self._connection
        try:
            return await self._in_thread(lambda: work(connection))
        except sqlite3.OperationalError as error:  # locked for too long, disk full, I/O error
            raise StoreUnavailable(f"The SQLite file {self._path.absolute()} cannot be used: {error}") from error

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _use_wal(db: sqlite3.Connection) -> None:
    """Of several processes that turn a new file to WAL at once, SQLite refuses all but one without waiting."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _migrate(db: sqlite3.Connection) -> None:
    """Applies what is missing in one transaction; a second process waits for the first."""
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (number integer PRIMARY KEY, name text NOT NULL, applied_at text NOT NULL) STRICT"
        )
        applied = {number for (number,) in db.execute("SELECT number FROM schema_migrations")}
        for migration in migrations("sqlite"):
            if migration.number in applied:
                continue
            for statement in _statements(migration.sql):
                db.execute(statement)
            now = datetime.now(UTC).isoformat()
            db.execute("INSERT INTO schema_migrations VALUES (?, ?, ?)", (migration.number, migration.name, now))
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    """The statements of a script, one by one: `executescript` would commit the open transaction first."""
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements


def _row(task: Task) -> tuple[str | int | None, ...]:
    return (
        str(task.id),
        task.title,
        task.description,
        task.status,
        _text(task.created_at),
        _text(task.updated_at),
        None if task.completed_at is None else _text(task.completed_at),
        task.version,
    )


def _task(row: tuple[str, str, str | None, str, str, str, str | None, int]) -> Task:
    id_, title, description, status, created_at, updated_at, completed_at, version = row
    return Task(
        id=UUID(id_),
        title=title,
        description=description,
        status=Status(status),
        created_at=datetime.fromisoformat(created_at),
        updated_at=datetime.fromisoformat(updated_at),
        completed_at=None if completed_at is None else datetime.fromisoformat(completed_at),
        version=version,
    )


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds")
