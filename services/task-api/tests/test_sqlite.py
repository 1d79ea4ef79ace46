"""Specific to SQLite: its file, and another process that writes to it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from making import NOW, a_task

from task_api.store import IdempotencyRecord, Write
from task_api.store.sqlite import SQLiteStore

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
    assert await tasks_store.get_record("ann", "key", now=NOW) == record


async def test_a_purge_removes_the_search_words(tasks_store: SQLiteStore) -> None:
    task = a_task()
    deleted = task.model_copy(update={"deleted_at": NOW, "version": 2})
    await tasks_store.commit([Write(task, "created"), Write(deleted, "deleted")], now=NOW)
    later = NOW + timedelta(seconds=1)
    assert await tasks_store.purge(deleted_before=later, records_before=later) == 1
    with contextlib.closing(sqlite3.connect(tasks_store.path)) as db:
        assert db.execute("SELECT count(*) FROM task_words WHERE task_words MATCH 'water'").fetchone() == (0,)
