"""Tasks in a SQLite file: used in development, and sufficient for a single process."""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from chassis.migrations import read_migrations, verify_checksums
from chassis.storage import StoreBusy, StoreUnavailable
from task_api.store import migrations
from task_api.store.listing import select
from task_api.store.metrics import metrics
from task_api.store.protocol import (
    IDEMPOTENCY_HOURS,
    ChangesPurged,
    IdempotencyRecord,
    InvalidFeedCursor,
    Names,
    OtherHistory,
    StoredChange,
    TaskJson,
    VersionConflict,
    VersionedJson,
    Write,
    versioned_json,
)
from task_api.tasks.models import Priority, Status, Task, to_json
from task_api.tasks.query import NEVER, Filters, NameKind, Query, words_of

T = TypeVar("T")

FIELDS = ", ".join(Task.model_fields)
"""A column for each field of a task, in the model's order."""
ROW = ", ".join("?" * (len(Task.model_fields) + 1))
"""The placeholders of FIELDS and `due`."""
INSERT = f"INSERT INTO tasks ({FIELDS}, due) VALUES ({ROW}) ON CONFLICT (id) DO NOTHING"
UPDATE = f"UPDATE tasks SET ({FIELDS}, due) = ({ROW}) WHERE id = ? AND version = ? RETURNING number"
NEWEST_CHANGE = "SELECT coalesce((SELECT max(number) FROM changes), (SELECT number FROM changes_purged))"
GAP = 2**30
"""Change numbers grow by a random step up to this: an older copy of the file that replaces it continues with different
numbers."""
BUSY_SECONDS = 5.0
"""How long to wait for another process that is writing to the same file."""
GROUP_SIZE = 64
"""Maximum number of tasks per group commit, except for a larger batch: it bounds how long others wait."""


@dataclass(frozen=True, slots=True)
class PendingWrite:
    """A member of a group commit. writes: number of tasks. done: resolved with the result."""

    work: Callable[[sqlite3.Connection], Any]
    writes: int
    done: asyncio.Future[Any]


class _GroupRolledBack(Exception):
    """The transaction of a group commit failed and was rolled back."""


class SQLiteStore:
    """One connection in a dedicated thread: SQLite has one writer at a time anyway.

    Writes that wait for the thread share one COMMIT (group commit); one that fails is rolled back alone.

    WAL with synchronous=FULL: a write that returned survives the process and the machine
    (https://www.sqlite.org/pragma.html#pragma_synchronous).
    """

    kind = "sqlite"

    def __init__(self, path: Path, *, queue_size: int) -> None:
        self.path = path
        self._queue_size = queue_size
        self._waiting = 0
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._group_lock = threading.Lock()
        self._group: list[PendingWrite] | None = None  # waiting for the thread, so more writes may join it
        self._room = 0  # number of tasks that may still join

    async def open(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        try:
            self._connection = await self._in_thread(self._connect)
        except StoreUnavailable:
            await self.close()
            raise
        except (OSError, sqlite3.Error) as error:
            await self.close()
            reason = error.strerror if isinstance(error, OSError) else error
            raise StoreUnavailable(
                f"Cannot open the SQLite file {self.path.absolute()}: {reason}. "
                "Choose a file in a writable folder: TASKS_DATABASE_URL=sqlite:///folder/tasks.db"
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

    async def commit(
        self, writes: Sequence[Write], record: IdempotencyRecord | None = None, *, now: datetime
    ) -> IdempotencyRecord | None:
        def commit(db: sqlite3.Connection) -> IdempotencyRecord | None:
            if record is not None and (existing := _find_record(db, record.subject, record.key, now)) is not None:
                return existing
            for write in writes:
                _write(db, write)
            if record is not None:
                _insert_record(db, record, now)
            return None

        return await self._run(commit, writes=len(writes) or 1)

    async def get_record(self, subject: str, key: str, *, now: datetime) -> IdempotencyRecord | None:
        return await self._run(lambda db: _find_record(db, subject, key, now))

    async def get(self, task_id: UUID) -> Task | None:
        return (await self.get_many([task_id])).get(task_id)

    async def get_json(self, task_id: UUID) -> VersionedJson | None:
        return versioned_json(await self.get(task_id))

    async def get_many(self, task_ids: Sequence[UUID]) -> dict[UUID, Task]:
        ids = json.dumps([str(task_id) for task_id in task_ids])
        statement = f"SELECT {FIELDS} FROM tasks WHERE id IN (SELECT value FROM json_each(?))"
        rows = await self._run(lambda db: db.execute(statement, (ids,)).fetchall())
        return {task.id: task for task in map(_task, rows)}

    async def page(self, query: Query, *, size: int) -> list[Task]:
        statement, values = select(query, size, Dialect())
        return [_task(row) for row in await self._run(lambda db: db.execute(statement, values).fetchall())]

    async def page_json(self, query: Query, *, size: int) -> list[TaskJson]:
        return [(content, content) for content in map(to_json, await self.page(query, size=size))]

    async def count_found(self, filters: Filters, *, limit: int) -> int:
        statement, values = select(Query(filters), limit, Dialect("id"))
        return len(await self._run(lambda db: db.execute(statement, values).fetchall()))

    async def names(self, kind: NameKind, *, scan: int, limit: int) -> Names:
        name, source = ("one.value", "newest, json_each(labels) AS one") if kind == "label" else (kind, "newest")
        statement = f"""
            WITH newest AS (SELECT labels, project, assignee, deleted_at FROM tasks ORDER BY id DESC LIMIT ?1)
            SELECT {name} AS name, count(*) AS tasks FROM {source}
             WHERE deleted_at IS NULL AND {name} IS NOT NULL
             GROUP BY name ORDER BY tasks DESC, name LIMIT ?2
        """

        def read(db: sqlite3.Connection) -> Names:
            rows = db.execute(statement, (scan, limit + 1)).fetchall()
            older = db.execute("SELECT id FROM tasks ORDER BY id DESC LIMIT 1 OFFSET ?", (scan,)).fetchone()
            return Names(tuple(rows[:limit]), whole=older is None and len(rows) <= limit)

        return await self._run(lambda db: _in_transaction(db, read, begin="BEGIN"))

    async def count(self) -> int:
        return await self._run(
            lambda db: int(db.execute("SELECT count(*) FROM tasks WHERE deleted_at IS NULL").fetchone()[0])
        )

    async def changes(self, after: str | None, *, size: int) -> list[StoredChange]:
        if after is not None and not (after.isascii() and after.isdigit() and len(after) < 19):
            raise InvalidFeedCursor

        def read(db: sqlite3.Connection) -> list[tuple[int, Any, str]]:
            if after is not None:
                (purged,) = db.execute("SELECT number FROM changes_purged").fetchone()
                if int(after) < purged:
                    raise ChangesPurged
                exists = "SELECT EXISTS (SELECT 1 FROM changes WHERE number = ?)"
                if int(after) > purged and not db.execute(exists, (int(after),)).fetchone()[0]:
                    raise OtherHistory
            statement = "SELECT number, type, task FROM changes WHERE number > ? ORDER BY number LIMIT ?"
            return db.execute(statement, (int(after or 0), size)).fetchall()

        rows = await self._run(lambda db: _in_transaction(db, read, begin="BEGIN"))
        return [StoredChange(str(number), type_, Task.model_validate_json(task)) for number, type_, task in rows]

    async def last_cursor(self) -> str:
        return str(await self._run(lambda db: db.execute(NEWEST_CHANGE).fetchone()[0]))

    async def feed_lag(self) -> float:
        return 0.0  # one writer at a time: every committed change is visible

    async def purge(self, *, deleted_before: datetime, records_before: datetime) -> int:
        def purge(db: sqlite3.Connection) -> int:
            before = _to_text(deleted_before)
            expired = "FROM tasks WHERE deleted_at < ?"
            db.execute(f"DELETE FROM task_words WHERE rowid IN (SELECT number {expired})", (before,))
            deleted = db.execute(f"DELETE {expired}", (before,)).rowcount
            # Up to the first entry to keep: all before it go, so that the feed has no gap.
            (kept,) = db.execute("SELECT min(number) FROM changes WHERE at >= ?", (before,)).fetchone()
            (through,) = db.execute(
                "SELECT max(number) FROM changes WHERE ?1 IS NULL OR number < ?1", (kept,)
            ).fetchone()
            if through is not None:
                db.execute("UPDATE changes_purged SET number = max(number, ?)", (through,))
                db.execute("DELETE FROM changes WHERE number <= ?", (through,))
            db.execute("DELETE FROM idempotency_records WHERE at < ?", (_to_text(records_before),))
            return deleted

        return await self._run(lambda db: _in_transaction(db, purge))

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            _use_wal(db)
            db.execute("PRAGMA synchronous = FULL")
            _in_transaction(db, _migrate)
        except BaseException:
            db.close()
            raise
        return db

    async def _run(self, work: Callable[[sqlite3.Connection], T], *, writes: int = 0) -> T:
        """Runs `work` in the store's thread: one hop per unit of work.

        writes: how many tasks it writes in a shared transaction; 0 if it begins its own, or none.
        """
        if self._connection is None:
            raise StoreUnavailable("SQLite: the storage is not open")
        if self._waiting > self._queue_size:
            metrics.rejected_total.inc()
            raise StoreBusy(f"{self._queue_size} requests are already waiting for the SQLite file")
        connection = self._connection
        self._waiting += 1
        try:
            if not writes:
                return await self._in_thread(lambda: work(connection))
            try:
                return await self._join(connection, work, writes)
            except _GroupRolledBack:
                return await self._in_thread(lambda: _in_transaction(connection, work))
        except sqlite3.OperationalError as error:  # locked for too long, disk full, I/O error
            raise StoreUnavailable(f"The SQLite file {self.path.absolute()} cannot be used: {error}") from error
        finally:
            self._waiting -= 1

    def _join(
        self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T], writes: int
    ) -> asyncio.Future[T]:
        """Adds `work` to the group that waits for the thread; begins a new one if there is none or it is full."""
        assert self._thread is not None, "it exists as long as the connection"
        loop = asyncio.get_running_loop()
        pending = PendingWrite(work, writes, loop.create_future())
        with self._group_lock:
            if self._group is not None and writes <= self._room:
                self._group.append(pending)
                self._room -= writes
                return pending.done
            group = self._group = [pending]
            self._room = GROUP_SIZE - writes
        committing = self._thread.submit(self._commit, connection, group)
        committing.add_done_callback(lambda committed: loop.call_soon_threadsafe(_resolve, group, committed))
        return pending.done

    def _commit(self, connection: sqlite3.Connection, group: list[PendingWrite]) -> list[Any]:
        """In the store's thread: the result or error of each pending write of the group."""
        with self._group_lock:
            if self._group is group:
                self._group = None
        group[:] = [pending for pending in group if not pending.done.cancelled()]
        if len(group) > 1:
            return _in_transaction(connection, lambda db: [_run_in_savepoint(db, pending) for pending in group])
        return [_in_transaction(connection, pending.work) for pending in group]

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class Dialect:
    has_indexes_by_project_and_due = False

    def __init__(self, columns: str = FIELDS) -> None:
        self.columns = columns

    def value(self, value: object, values: list[Any]) -> str:
        if isinstance(value, datetime):
            value = _to_text(value)
        elif isinstance(value, UUID):
            value = str(value)
        values.append(value)
        return f"?{len(values)}"

    def one_of(self, column: str, chosen: Sequence[Any], values: list[Any]) -> str:
        return f"{column} IN ({', '.join(self.value(value, values) for value in chosen)})"

    def has_label(self, label: str, values: list[Any]) -> str:
        return f"EXISTS (SELECT 1 FROM json_each(labels) WHERE value = {self.value(label, values)})"

    def has_words(self, words: Sequence[str], values: list[Any]) -> str:
        # Quoted, so that FTS5 does not parse a word as an operator; words contain no quotes.
        return self._match(" AND ".join(f'"{word}"' for word in words), values)

    def has_prefixes(self, prefixes: Sequence[str], values: list[Any]) -> str:
        return self._match(" AND ".join(f'"{prefix}" *' for prefix in prefixes), values)

    def _match(self, query: str, values: list[Any]) -> str:
        return f"number IN (SELECT rowid FROM task_words WHERE task_words MATCH {self.value(query, values)})"

    def title(self) -> str:
        return "title"  # SQLite collates bytes

    def never(self) -> str:
        return f"'{_to_text(NEVER)}'"  # a literal, to match the index expressions


def _in_transaction(
    db: sqlite3.Connection, work: Callable[[sqlite3.Connection], T], begin: str = "BEGIN IMMEDIATE"
) -> T:
    """Runs `work` in a transaction; a second process waits for the first."""
    db.execute(begin)
    try:
        result = work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # otherwise SQLite rolled it back itself, for example when the disk is full
            db.execute("ROLLBACK")
        raise
    return result


def _run_in_savepoint(db: sqlite3.Connection, pending: PendingWrite) -> Any:
    """Returns the result, or the error after rolling back this write alone. Raises errors that abort the transaction.

    A conflicting write of one task has changed nothing and needs no SAVEPOINT: that would take 180 µs of 420, since
    SQLite copies each page modified after one again, and FTS5 flushes its pending data.
    """
    if pending.writes == 1:
        try:
            return pending.work(db)
        except VersionConflict as error:
            return error
    db.execute("SAVEPOINT pending")
    try:
        result = pending.work(db)
    except (VersionConflict, sqlite3.Error) as error:
        # Fails if SQLite rolled back the transaction itself: a SAVEPOINT would then begin another one.
        db.execute("ROLLBACK TO pending")
        result = error
    db.execute("RELEASE pending")
    return result


def _resolve(group: list[PendingWrite], committed: Future[list[Any]]) -> None:
    """In the event loop: resolves the futures that were not cancelled."""
    error = committed.exception()
    # All of them waited for the lock as long as each would alone. Any other error may come from one of them only.
    if len(group) > 1 and error is not None and getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY:
        error = _GroupRolledBack()
    results = committed.result() if error is None else [error] * len(group)
    for pending, result in zip(group, results, strict=True):
        if pending.done.done():
            continue
        if isinstance(result, BaseException):
            pending.done.set_exception(result)
        else:
            pending.done.set_result(result)


def _insert_record(db: sqlite3.Connection, record: IdempotencyRecord, now: datetime) -> None:
    """Inserts `record`, replacing an expired one."""
    db.execute(
        "INSERT OR REPLACE INTO idempotency_records (subject, key, fingerprint, status, body, at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (record.subject, record.key, record.fingerprint, record.status, record.body, _to_text(now)),
    )


def _find_record(db: sqlite3.Connection, subject: str, key: str, now: datetime) -> IdempotencyRecord | None:
    row = db.execute(
        "SELECT subject, key, fingerprint, status, body FROM idempotency_records"
        " WHERE subject = ? AND key = ? AND at > ?",
        (subject, key, _to_text(now - timedelta(hours=IDEMPOTENCY_HOURS))),
    ).fetchone()
    return None if row is None else IdempotencyRecord(*row)


def _write(db: sqlite3.Connection, write: Write) -> None:
    task = write.task
    words = " ".join(sorted(words_of(task)))
    if task.version == 1:
        inserted = db.execute(INSERT, _row(task))
        if inserted.rowcount != 1:
            raise VersionConflict
        db.execute("INSERT INTO task_words (rowid, words) VALUES (?, ?)", (inserted.lastrowid, words))
    else:
        updated = db.execute(UPDATE, (*_row(task), str(task.id), task.version - 1)).fetchone()
        if updated is None:
            raise VersionConflict
        db.execute("UPDATE task_words SET words = ? WHERE rowid = ?", (words, updated[0]))
    db.execute(
        f"INSERT INTO changes (number, at, type, task) VALUES (({NEWEST_CHANGE}) + ?, ?, ?, ?)",
        (1 + secrets.randbelow(GAP), _to_text(task.updated_at), write.type, write.json),
    )


def _use_wal(db: sqlite3.Connection) -> None:
    """Retries: if several processes switch a new file to WAL at once, SQLite rejects all but one without waiting."""
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
    """Applies pending migrations. Raises StoreUnavailable if an applied one was modified since."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations"
        " (number integer PRIMARY KEY, name text NOT NULL, applied_at text NOT NULL) STRICT"
    )
    if "checksum" not in {name for _, name, *_ in db.execute("PRAGMA table_info(schema_migrations)")}:
        db.execute("ALTER TABLE schema_migrations ADD COLUMN checksum text")
    applied = dict(db.execute("SELECT number, checksum FROM schema_migrations"))
    available = read_migrations(migrations.FOLDER / "sqlite")
    verify_checksums(available, applied)
    for migration in available:
        if migration.number not in applied:
            for statement in _statements(migration.sql):
                db.execute(statement)
            db.execute(
                "INSERT INTO schema_migrations (number, name, applied_at, checksum) VALUES (?, ?, ?, ?)",
                (migration.number, migration.name, datetime.now(UTC).isoformat(), migration.checksum),
            )
        elif applied[migration.number] is None:  # applied by a release without checksums: trust the current file
            db.execute(
                "UPDATE schema_migrations SET checksum = ? WHERE number = ?", (migration.checksum, migration.number)
            )


def _statements(script: str) -> list[str]:
    """The statements of a script, one by one: `executescript` would commit the open transaction first."""
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return [*statements, current] if current else statements  # an incomplete statement must fail, not be skipped


def _row(task: Task) -> tuple[str | int | float | None, ...]:
    return (
        str(task.id),
        task.title,
        task.description,
        task.status,
        task.priority.rank,
        _to_text(task.due_at),
        None if task.due_on is None else task.due_on.isoformat(),
        _to_text(task.start_at),
        json.dumps(task.labels),
        task.project,
        None if task.parent is None else str(task.parent),
        task.assignee,
        task.percent_done,
        task.recurrence,
        task.time_zone,
        None if task.followed_by is None else str(task.followed_by),
        task.position,
        json.dumps(task.metadata),
        _to_text(task.created_at),
        _to_text(task.updated_at),
        _to_text(task.completed_at),
        _to_text(task.deleted_at),
        task.version,
        _to_text(task.due),
    )


PRIORITIES = list(Priority)


def _task(row: tuple[Any, ...]) -> Task:
    return Task(
        id=UUID(row[0]),
        title=row[1],
        description=row[2],
        status=Status(row[3]),
        priority=PRIORITIES[row[4]],
        due_at=_to_datetime(row[5]),
        due_on=None if row[6] is None else date.fromisoformat(row[6]),
        start_at=_to_datetime(row[7]),
        labels=json.loads(row[8]),
        project=row[9],
        parent=None if row[10] is None else UUID(row[10]),
        assignee=row[11],
        percent_done=row[12],
        recurrence=row[13],
        time_zone=row[14],
        followed_by=None if row[15] is None else UUID(row[15]),
        position=row[16],
        metadata=json.loads(row[17]),
        created_at=datetime.fromisoformat(row[18]),
        updated_at=datetime.fromisoformat(row[19]),
        completed_at=_to_datetime(row[20]),
        deleted_at=_to_datetime(row[21]),
        version=row[22],
    )


def _to_text(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat(timespec="microseconds")


def _to_datetime(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
