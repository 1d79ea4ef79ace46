"""Concurrent creations that wait for PostgreSQL, for tests of how they are grouped."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import asyncpg
from databases import BLOCKED, connected
from making import a_task

from task_api.store import IdempotencyRecord, Write
from task_api.store.postgres import PostgresStore
from task_api.store.postgres_rows import row_of
from task_api.store.postgres_writes import CREATE_TASK
from task_api.tasks.models import Task

DEADLINE_SECONDS = 30


class Holder:
    """A connection outside the store, whose open transaction has inserted a task: a concurrent insert of it blocks."""

    def __init__(self, db: asyncpg.Connection[asyncpg.Record]) -> None:
        self._db = db
        self._transaction = db.transaction()

    async def insert(self, task: Task) -> None:
        await self._transaction.start()
        await self._db.execute(CREATE_TASK, *row_of(task), "created", "{}")

    async def wait_for_blocked_insert(self) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await self._db.fetchval(BLOCKED) == 0:
                await asyncio.sleep(0.01)

    async def roll_back(self) -> None:
        await self._transaction.rollback()


@contextlib.asynccontextmanager
async def holding(url: str, task: Task) -> AsyncIterator[Holder]:
    async with connected(url) as db:
        holder = Holder(db)
        await holder.insert(task)
        yield holder


def create(store: PostgresStore, task: Task, key: str = "") -> asyncio.Task[IdempotencyRecord | None]:
    record = record_of(task, key) if key else None
    return asyncio.create_task(store.commit([Write(task, "created")], record, now=task.updated_at))


def record_of(task: Task, key: str) -> IdempotencyRecord:
    return IdempotencyRecord("ann", key, "fingerprint", 201, task.model_dump_json())


async def start_group(
    store: PostgresStore, url: str, *tasks: Task, keys: Sequence[str] = ()
) -> list[asyncio.Task[IdempotencyRecord | None]]:
    """Starts creating these in one transaction, queued behind an earlier one. keys: of the first tasks."""
    before = a_task()
    async with holding(url, before) as holder:
        first = create(store, before)
        await holder.wait_for_blocked_insert()
        group = [
            create(store, task, key) for task, key in zip(tasks, [*keys, *[""] * (len(tasks) - len(keys))], strict=True)
        ]
        await asyncio.sleep(0)  # now they are queued
        await holder.roll_back()
        await first
    return group
