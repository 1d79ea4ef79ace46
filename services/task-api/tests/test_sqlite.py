"""Specific to SQLite: its file, and another process that writes to it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from making import NOW, a_task

from chassis.storage import StoreUnavailable
from task_api.store import IdempotencyRecord, OtherHistory, Write
from task_api.store import sqlite as under_test
from task_api.store.sqlite import SQLiteStore, _use_wal

DEADLINE_SECONDS = 30


class Watched(sqlite3.Connection):
    """Records the statements, and the synchronous mode at close."""

    statements: list[str]
    pragmas: list[tuple[str, int]]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.set_trace_callback(self.statements.append)

    def close(self) -> None:
        found = [self.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
        self.pragmas.append((found[0], found[1]))
        super().close()


@pytest.fixture
async def tasks_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SQLiteStore]:
    Watched.statements, Watched.pragmas = [], []
    store = SQLiteStore(tmp_path / "tasks.db", queue_size=10)
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Watched))
        await store.open()
    yield store
    await store.close()


async def test_a_write_is_synced_before_it_is_acknowledged(tasks_store: SQLiteStore) -> None:
    """In WAL mode that is synchronous=FULL, which is 2 (https://www.sqlite.org/pragma.html#pragma_synchronous)."""
    assert "PRAGMA synchronous = FULL" in Watched.statements  # some builds of SQLite have another default
    await tasks_store.close()
    assert Watched.pragmas == [("wal", 2)]


async def test_a_keyed_write_waits_for_a_writing_process(tasks_store: SQLiteStore) -> None:
    """A snapshot read before would be outdated when the other process is done, and SQLite would reject the write."""
    with contextlib.closing(sqlite3.connect(tasks_store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE changes_purged SET number = number")
        Watched.statements.clear()
        record = IdempotencyRecord("ann", "key", "fingerprint", 201, "{}")
        committing = asyncio.create_task(tasks_store.commit([], record, now=NOW))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not any(statement.startswith(("BEGIN IMMEDIATE", "INSERT")) for statement in Watched.statements):
                await asyncio.sleep(0.01)
        other.execute("COMMIT")
    assert await committing is None
    assert "BEGIN IMMEDIATE" in Watched.statements
    assert await tasks_store.get_record("ann", "key", now=NOW) == record


class Locked:
    """A connection that rejects so many statements with this code."""

    def __init__(self, times: int, code: int) -> None:
        self.times = times
        self.code = code

    def execute(self, _statement: str) -> None:
        if self.times:
            self.times -= 1
            error = sqlite3.OperationalError("rejected")
            error.sqlite_errorcode = self.code
            raise error


@pytest.mark.parametrize(
    ("times", "code", "sleeps"),
    [
        (3, sqlite3.SQLITE_BUSY, 3),
        (6, sqlite3.SQLITE_BUSY, 6),
        (7, sqlite3.SQLITE_BUSY, 6),
        (1, sqlite3.SQLITE_FULL, 0),
    ],
    ids=["soon-free", "just-in-time", "too-late", "other-error"],
)
def test_the_switch_to_wal_is_retried_while_the_file_is_busy(
    times: int, code: int, sleeps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []  # a second each, by this clock
    clock = SimpleNamespace(monotonic=lambda: len(slept), sleep=slept.append)
    monkeypatch.setattr(under_test, "time", clock)
    monkeypatch.setattr(under_test, "BUSY_SECONDS", 5)
    fails = pytest.raises(sqlite3.OperationalError) if times > sleeps else contextlib.nullcontext()
    with fails:
        _use_wal(cast("sqlite3.Connection", Locked(times, code)))
    assert slept == [0.01] * sleeps


async def test_missing_folders_are_created(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "a/b/tasks.db", queue_size=10)
    await store.open()
    await store.close()
    assert (tmp_path / "a/b/tasks.db").exists()


async def test_a_closed_store_is_unavailable_and_has_no_thread(tasks_store: SQLiteStore) -> None:
    threads = threading.active_count()
    await tasks_store.ping()
    await tasks_store.close()
    assert threading.active_count() == threads - 1
    with pytest.raises(StoreUnavailable, match="not open"):
        await tasks_store.ping()


@pytest.mark.parametrize("changed", [False, True], ids=["not-a-database", "changed-migration"])
async def test_a_store_that_cannot_be_opened_leaves_no_thread_and_no_connection(
    changed: bool, tasks_store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tasks_store.close()
    if changed:
        with contextlib.closing(sqlite3.connect(tasks_store.path)) as db, db:
            db.execute("UPDATE schema_migrations SET checksum = 'another'")
    else:
        tasks_store.path.write_bytes(b"x" * 4096)
    closed: list[None] = []

    class Closing(sqlite3.Connection):
        def close(self) -> None:
            closed.append(None)
            super().close()

    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Closing))
    threads = threading.active_count()
    with pytest.raises(StoreUnavailable):
        await tasks_store.open()
    assert (threading.active_count(), len(closed)) == (threads, 1)


async def test_the_longest_cursor_is_valid(tasks_store: SQLiteStore) -> None:
    with pytest.raises(OtherHistory):
        await tasks_store.changes("9" * 18, size=1)


async def test_changes_that_grow_by_the_smallest_random_step_are_all_in_the_feed(
    tasks_store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "GAP", 1)
    tasks = [a_task(), a_task()]
    await tasks_store.commit([Write(task, "created") for task in tasks], now=NOW)
    assert [change.task for change in await tasks_store.changes(None, size=10)] == tasks


async def test_a_purge_removes_the_search_words(tasks_store: SQLiteStore) -> None:
    task = a_task()
    deleted = task.model_copy(update={"deleted_at": NOW, "version": 2})
    await tasks_store.commit([Write(task, "created"), Write(deleted, "deleted")], now=NOW)
    later = NOW + timedelta(seconds=1)
    assert await tasks_store.purge(deleted_before=later, records_before=later) == 1
    with contextlib.closing(sqlite3.connect(tasks_store.path)) as db:
        assert db.execute("SELECT count(*) FROM task_words WHERE task_words MATCH 'water'").fetchone() == (0,)
