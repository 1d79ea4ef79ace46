"""Tasks in a SQLite file: what a laptop uses, and all that one process needs."""

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

from chassis.migrations import read_migrations, refuse_changed
from chassis.storage import StoreBusy, StoreUnavailable
from task_api.store import migrations
from task_api.store.listing import select
from task_api.store.metrics import metrics
from task_api.store.protocol import (
    ANSWER_HOURS,
    Answer,
    ChangesPurged,
    Names,
    OtherHistory,
    StoredChange,
    TaskJson,
    VersionConflict,
    Write,
    WrongPosition,
)
from task_api.tasks.models import Priority, Status, Task, to_json
from task_api.tasks.query import NEVER, Filters, NameKind, Query, words_of

T = TypeVar("T")

FIELDS = (
    "id, title, description, status, priority, due_at, due_on, start_at, labels, project, parent, assignee,"
    " percent_done, recurrence, time_zone, followed_by, position, metadata, created_at, updated_at, completed_at,"
    " deleted_at, version"
)
INSERT = f"INSERT INTO tasks ({FIELDS}, due) VALUES ({', '.join('?' * 24)}) ON CONFLICT (id) DO NOTHING"
UPDATE = f"UPDATE tasks SET ({FIELDS}, due) = ({', '.join('?' * 24)}) WHERE id = ? AND version = ? RETURNING number"
NEWEST_CHANGE = "SELECT coalesce((SELECT max(number) FROM changes), (SELECT number FROM changes_purged))"
GAP = 2**30
"""The next change has a number up to so much greater, by chance: a copy of the file from before it that takes the
file's place goes on with others."""
BUSY_SECONDS = 5.0
"""How long to wait for another process that writes to the same file."""
GROUP_SIZE = 64
"""How many tasks are written in one transaction at most, but for a batch that has more: so long others wait."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of those whose writes have one COMMIT. writes: how many tasks. done: who waits for it."""

    work: Callable[[sqlite3.Connection], Any]
    writes: int
    done: asyncio.Future[Any]


class _Undone(Exception):
    """The transaction of a group failed. Nothing of it is kept."""


class SQLiteStore:
    """One connection, used by one thread of its own: SQLite has one writer at a time anyway.

    Who writes joins those who wait for the thread already: they have one COMMIT, and one that fails is undone alone.

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
        self._joining = threading.Lock()
        self._group: list[Member] | None = None  # waits for the thread, so more may join it
        self._room = 0  # for so many tasks

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

    async def commit(self, writes: Sequence[Write], answer: Answer | None = None, *, now: datetime) -> Answer | None:
        def commit(db: sqlite3.Connection) -> Answer | None:
            if answer is not None and (kept := _kept_answer(db, answer.subject, answer.key, now)) is not None:
                return kept
            for write in writes:
                _write(db, write)
            if answer is not None:
                _keep_answer(db, answer, now)
            return None

        return await self._run(commit, writes=len(writes) or 1)

    async def answer(self, subject: str, key: str, *, now: datetime) -> Answer | None:
        return await self._run(lambda db: _kept_answer(db, subject, key, now))

    async def get(self, task_id: UUID) -> Task | None:
        return (await self.get_many([task_id])).get(task_id)

    async def get_many(self, task_ids: Sequence[UUID]) -> dict[UUID, Task]:
        chosen = json.dumps([str(task_id) for task_id in task_ids])
        statement = f"SELECT {FIELDS} FROM tasks WHERE id IN (SELECT value FROM json_each(?))"
        rows = await self._run(lambda db: db.execute(statement, (chosen,)).fetchall())
        return {task.id: task for task in map(_task, rows)}

    async def page(self, query: Query, *, size: int) -> list[Task]:
        statement, values = select(query, size, Dialect())
        return [_task(row) for row in await self._run(lambda db: db.execute(statement, values).fetchall())]

    async def page_json(self, query: Query, *, size: int) -> list[TaskJson]:
        return [(content, content) for content in map(to_json, await self.page(query, size=size))]

    async def count_found(self, filters: Filters, *, most: int) -> int:
        statement, values = select(Query(filters), most, Dialect("id"))
        return len(await self._run(lambda db: db.execute(statement, values).fetchall()))

    async def names(self, kind: NameKind, *, among: int, most: int) -> Names:
        name, source = ("one.value", "newest, json_each(labels) AS one") if kind == "label" else (kind, "newest")
        statement = f"""
            WITH newest AS (SELECT labels, project, assignee, deleted_at FROM tasks ORDER BY id DESC LIMIT ?1)
            SELECT {name} AS name, count(*) AS tasks FROM {source}
             WHERE deleted_at IS NULL AND {name} IS NOT NULL
             GROUP BY name ORDER BY tasks DESC, name LIMIT ?2
        """

        def read(db: sqlite3.Connection) -> Names:
            rows = db.execute(statement, (among, most + 1)).fetchall()
            older = db.execute("SELECT id FROM tasks ORDER BY id DESC LIMIT 1 OFFSET ?", (among,)).fetchone()
            return Names(tuple(rows[:most]), whole=older is None and len(rows) <= most)

        return await self._run(lambda db: _in_transaction(db, read, begin="BEGIN"))

    async def count(self) -> int:
        return await self._run(
            lambda db: int(db.execute("SELECT count(*) FROM tasks WHERE deleted_at IS NULL").fetchone()[0])
        )

    async def changes(self, after: str | None, *, size: int) -> list[StoredChange]:
        if after is not None and not (after.isascii() and after.isdigit() and len(after) < 19):
            raise WrongPosition

        def read(db: sqlite3.Connection) -> list[tuple[int, Any, str]]:
            if after is not None:
                (purged,) = db.execute("SELECT number FROM changes_purged").fetchone()
                if int(after) < purged:
                    raise ChangesPurged
                there = "SELECT EXISTS (SELECT 1 FROM changes WHERE number = ?)"
                if int(after) > purged and not db.execute(there, (int(after),)).fetchone()[0]:
                    raise OtherHistory
            statement = "SELECT number, type, task FROM changes WHERE number > ? ORDER BY number LIMIT ?"
            return db.execute(statement, (int(after or 0), size)).fetchall()

        rows = await self._run(lambda db: _in_transaction(db, read, begin="BEGIN"))
        return [StoredChange(str(number), type_, Task.model_validate_json(task)) for number, type_, task in rows]

    async def last_position(self) -> str:
        return str(await self._run(lambda db: db.execute(NEWEST_CHANGE).fetchone()[0]))

    async def feed_lag(self) -> float:
        return 0.0  # one writer at a time: what is committed can be read

    async def purge(self, *, deleted_before: datetime, answers_before: datetime) -> int:
        def purge(db: sqlite3.Connection) -> int:
            limit = _text(deleted_before)
            old = "FROM tasks WHERE deleted_at < ?"
            db.execute(f"DELETE FROM task_words WHERE rowid IN (SELECT number {old})", (limit,))
            gone = db.execute(f"DELETE {old}", (limit,)).rowcount
            # Up to the first entry that stays: none before it may stay either, or the feed would have a gap.
            (stays,) = db.execute("SELECT min(number) FROM changes WHERE at >= ?", (limit,)).fetchone()
            (through,) = db.execute(
                "SELECT max(number) FROM changes WHERE ?1 IS NULL OR number < ?1", (stays,)
            ).fetchone()
            if through is not None:
                db.execute("UPDATE changes_purged SET number = max(number, ?)", (through,))
                db.execute("DELETE FROM changes WHERE number <= ?", (through,))
            db.execute("DELETE FROM answers WHERE at < ?", (_text(answers_before),))
            return gone

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
        """Does `work` in the store's thread: one hop per unit of work.

        writes: how many tasks it writes, in a transaction that it shares; 0 where it begins its own, or none.
        """
        if self._connection is None:
            raise StoreUnavailable("SQLite: the storage is not open")
        if self._waiting > self._queue_size:
            metrics.rejected_total.inc()
            raise StoreBusy(f"{self._queue_size} requests wait for the SQLite file already")
        connection = self._connection
        self._waiting += 1
        try:
            if not writes:
                return await self._in_thread(lambda: work(connection))
            try:
                return await self._join(connection, work, writes)
            except _Undone:
                return await self._in_thread(lambda: _in_transaction(connection, work))
        except sqlite3.OperationalError as error:  # locked for too long, disk full, I/O error
            raise StoreUnavailable(f"The SQLite file {self.path.absolute()} cannot be used: {error}") from error
        finally:
            self._waiting -= 1

    def _join(
        self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T], writes: int
    ) -> asyncio.Future[T]:
        """Adds `work` to the group that waits for the thread; where there is none, or no room in it, begins one."""
        assert self._thread is not None, "it is there as long as the connection"
        loop = asyncio.get_running_loop()
        joined = Member(work, writes, loop.create_future())
        with self._joining:
            if self._group is not None and writes <= self._room:
                self._group.append(joined)
                self._room -= writes
                return joined.done
            group = self._group = [joined]
            self._room = GROUP_SIZE - writes
        committing = self._thread.submit(self._commit, connection, group)
        committing.add_done_callback(lambda committed: loop.call_soon_threadsafe(_tell, group, committed))
        return joined.done

    def _commit(self, connection: sqlite3.Connection, group: list[Member]) -> list[Any]:
        """In the store's thread: what became of each that waits until now, its error or what it returned."""
        with self._joining:
            if self._group is group:
                self._group = None
        group[:] = [one for one in group if not one.done.cancelled()]
        if len(group) > 1:
            return _in_transaction(connection, lambda db: [_do_or_undo(db, one) for one in group])
        return [_in_transaction(connection, one.work) for one in group]

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class Dialect:
    def __init__(self, columns: str = FIELDS) -> None:
        self.columns = columns

    def value(self, value: object, values: list[Any]) -> str:
        if isinstance(value, datetime):
            value = _text(value)
        elif isinstance(value, UUID):
            value = str(value)
        values.append(value)
        return f"?{len(values)}"

    def one_of(self, column: str, chosen: Sequence[Any], values: list[Any]) -> str:
        return f"{column} IN ({', '.join(self.value(one, values) for one in chosen)})"

    def has_label(self, label: str, values: list[Any]) -> str:
        return f"EXISTS (SELECT 1 FROM json_each(labels) WHERE value = {self.value(label, values)})"

    def has_words(self, words: Sequence[str], values: list[Any]) -> str:
        # In quotes a word is a word, not an operator of FTS5's query language; a word has no quotes in it.
        return self._match(" AND ".join(f'"{word}"' for word in words), values)

    def has_prefixes(self, prefixes: Sequence[str], values: list[Any]) -> str:
        return self._match(" AND ".join(f'"{prefix}" *' for prefix in prefixes), values)

    def _match(self, query: str, values: list[Any]) -> str:
        return f"number IN (SELECT rowid FROM task_words WHERE task_words MATCH {self.value(query, values)})"

    def title(self) -> str:
        return "title"  # SQLite compares bytes

    def never(self) -> str:
        return f"'{_text(NEVER)}'"  # not a parameter, since the indexes have it so


def _in_transaction(
    db: sqlite3.Connection, work: Callable[[sqlite3.Connection], T], begin: str = "BEGIN IMMEDIATE"
) -> T:
    """Does all of `work` or nothing; a second process waits for the first."""
    db.execute(begin)
    try:
        done = work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # else SQLite has undone it itself, as when the disk is full
            db.execute("ROLLBACK")
        raise
    return done


def _do_or_undo(db: sqlite3.Connection, one: Member) -> Any:
    """Returns what the work returned, or the error of which nothing is left. Raises what undoes the whole transaction.

    Who writes one task has changed nothing when it conflicts, and needs no SAVEPOINT: that would take 180 µs of 420,
    since SQLite copies each page that changes after one once more, and FTS5 writes out what it had gathered.
    """
    if one.writes == 1:
        try:
            return one.work(db)
        except VersionConflict as error:
            return error
    db.execute("SAVEPOINT one")
    try:
        result = one.work(db)
    except (VersionConflict, sqlite3.Error) as error:
        # Fails where SQLite has undone the transaction itself: a SAVEPOINT would begin another one.
        db.execute("ROLLBACK TO one")
        result = error
    db.execute("RELEASE one")
    return result


def _tell(group: list[Member], committed: Future[list[Any]]) -> None:
    """In the event loop: whoever has not given up meanwhile goes on."""
    error = committed.exception()
    # Who waited for the lock has waited for as long as alone. Anything else may come from one of them only.
    if len(group) > 1 and error is not None and getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY:
        error = _Undone()
    results = committed.result() if error is None else [error] * len(group)
    for one, result in zip(group, results, strict=True):
        if one.done.done():
            continue
        if isinstance(result, BaseException):
            one.done.set_exception(result)
        else:
            one.done.set_result(result)


def _keep_answer(db: sqlite3.Connection, answer: Answer, now: datetime) -> None:
    """Keeps `answer`; one that is under its key is too old."""
    db.execute(
        "INSERT OR REPLACE INTO answers (subject, key, fingerprint, status, body, at) VALUES (?, ?, ?, ?, ?, ?)",
        (answer.subject, answer.key, answer.fingerprint, answer.status, answer.body, _text(now)),
    )


def _kept_answer(db: sqlite3.Connection, subject: str, key: str, now: datetime) -> Answer | None:
    kept = db.execute(
        "SELECT subject, key, fingerprint, status, body FROM answers WHERE subject = ? AND key = ? AND at > ?",
        (subject, key, _text(now - timedelta(hours=ANSWER_HOURS))),
    ).fetchone()
    return None if kept is None else Answer(*kept)


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
        (1 + secrets.randbelow(GAP), _text(task.updated_at), write.type, write.json),
    )


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
    """Applies what is missing. Raises StoreUnavailable where what was applied has changed since."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations"
        " (number integer PRIMARY KEY, name text NOT NULL, applied_at text NOT NULL) STRICT"
    )
    if "checksum" not in {name for _, name, *_ in db.execute("PRAGMA table_info(schema_migrations)")}:
        db.execute("ALTER TABLE schema_migrations ADD COLUMN checksum text")
    applied = dict(db.execute("SELECT number, checksum FROM schema_migrations"))
    wanted = read_migrations(migrations.FOLDER / "sqlite")
    refuse_changed(wanted, applied)
    for migration in wanted:
        if migration.number not in applied:
            for statement in _statements(migration.sql):
                db.execute(statement)
            db.execute(
                "INSERT INTO schema_migrations (number, name, applied_at, checksum) VALUES (?, ?, ?, ?)",
                (migration.number, migration.name, datetime.now(UTC).isoformat(), migration.checksum),
            )
        elif applied[migration.number] is None:  # by a release that kept none: as it is now it is taken for right
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
    return [*statements, current] if current else statements  # half a statement must fail, not be left out


def _row(task: Task) -> tuple[str | int | float | None, ...]:
    return (
        str(task.id),
        task.title,
        task.description,
        task.status,
        task.priority.rank,
        _text(task.due_at),
        None if task.due_on is None else task.due_on.isoformat(),
        _text(task.start_at),
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
        _text(task.created_at),
        _text(task.updated_at),
        _text(task.completed_at),
        _text(task.deleted_at),
        task.version,
        _text(task.due),
    )


PRIORITIES = list(Priority)


def _task(row: tuple[Any, ...]) -> Task:
    return Task(
        id=UUID(row[0]),
        title=row[1],
        description=row[2],
        status=Status(row[3]),
        priority=PRIORITIES[row[4]],
        due_at=_time(row[5]),
        due_on=None if row[6] is None else date.fromisoformat(row[6]),
        start_at=_time(row[7]),
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
        completed_at=_time(row[20]),
        deleted_at=_time(row[21]),
        version=row[22],
    )


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat(timespec="microseconds")


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
