"""Concurrent updates of the same tasks, and work that yields to other requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from types import SimpleNamespace
from uuid import UUID

import pytest
from making import a_task

from task_api.store import IdempotencyRecord, StoreBusy, VersionConflict, Write
from task_api.store.memory import MemoryStore
from task_api.tasks import commands
from task_api.tasks.models import Batch, Status, Task, TaskPatch
from task_api.tasks.query import Query


class Overtaken(MemoryStore):
    """Another client always wins, or as often as set."""

    overtaken = 1_000_000_000

    async def commit(
        self, writes: Sequence[Write], record: IdempotencyRecord | None = None, *, now: datetime
    ) -> IdempotencyRecord | None:
        if writes[0].task.version > 1 and self.overtaken:
            self.overtaken -= 1
            clock.now += 0.5
            raise VersionConflict
        return await super().commit(writes, record, now=now)


clock = SimpleNamespace(now=0.0)

CHANGES: dict[str, Callable[[MemoryStore, Task], Awaitable[object]]] = {
    "change": lambda store, task: commands.update(store, task.id, TaskPatch(title="new"), commands.no_precondition),
    "delete": lambda store, task: commands.delete(store, task.id, commands.no_precondition),
    "undelete": lambda store, task: commands.undelete(store, task.id, commands.no_precondition),
    "batch": lambda store, task: commands.batch(
        store, Batch.model_validate({"items": [{"action": "update", "id": task.id, "patch": {"title": "new"}}]}), None
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
async def test_a_version_conflict_is_retried_within_a_time_limit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "time", SimpleNamespace(monotonic=lambda: clock.now))
    store = Overtaken()
    task = a_task()
    if kind == "undelete":
        task = task.model_copy(update={"deleted_at": task.updated_at})
    await store.commit([Write(task, "created")], now=task.updated_at)
    with pytest.raises(StoreBusy):
        await CHANGES[kind](store, task)
    attempts = Overtaken.overtaken - store.overtaken
    assert (attempts - 1) * 0.5 == commands.CONFLICT_RETRY_SECONDS
    store.overtaken = 3
    await CHANGES[kind](store, task)


class Touched(MemoryStore):
    """Another client changes the next occurrence just before it would be deleted."""

    async def commit(
        self, writes: Sequence[Write], record: IdempotencyRecord | None = None, *, now: datetime
    ) -> IdempotencyRecord | None:
        if writes[-1].type == "deleted" and (task := await self.get(writes[-1].task.id)) and task.version == 1:
            theirs = task.model_copy(update={"version": 2, "title": "theirs"})
            await super().commit([Write(theirs, "updated")], now=now)
        return await super().commit(writes, record, now=now)


async def test_a_concurrent_change_to_the_next_occurrence_survives_a_reopen() -> None:
    store = Touched()
    task = a_task(recurrence="FREQ=DAILY")
    await store.commit([Write(task, "created")], now=task.updated_at)
    await commands.update(store, task.id, TaskPatch(status=Status.DONE), commands.no_precondition)
    done = await commands.get(store, task.id)
    await commands.update(store, task.id, TaskPatch(status=Status.TO_DO), commands.no_precondition)
    opened = await commands.get(store, task.id)
    assert opened.followed_by == done.followed_by is not None
    next_task = await commands.get(store, done.followed_by)
    assert (next_task.title, next_task.recurrence, opened.recurrence) == ("theirs", "FREQ=DAILY", None)


class Read(MemoryStore):
    """Records the ids that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[UUID] = []

    async def get(self, task_id: UUID) -> Task | None:
        self.ids.append(task_id)
        return await super().get(task_id)

    async def get_many(self, task_ids: Sequence[UUID]) -> dict[UUID, Task]:
        self.ids += task_ids
        return await super().get_many(task_ids)


@pytest.mark.parametrize("batch", [False, True], ids=["update", "batch"])
async def test_the_next_occurrence_is_read_only_to_reopen_a_task(batch: bool) -> None:
    """Each read is a round trip to the database."""
    store = Read()
    task = a_task(recurrence="FREQ=DAILY")
    await store.commit([Write(task, "created")], now=task.updated_at)

    async def ids_read_by(**patch: object) -> list[UUID]:
        store.ids.clear()
        if batch:
            items = [{"action": "update", "id": task.id, "patch": patch}]
            await commands.batch(store, Batch.model_validate({"items": items}), None)
        else:
            await commands.update(store, task.id, TaskPatch.model_validate(patch), commands.no_precondition)
        return store.ids.copy()

    assert await ids_read_by(status="done") == [task.id]
    assert await ids_read_by(title="new") == [task.id]
    followed_by = (await commands.get(store, task.id)).followed_by
    assert await ids_read_by(status="todo") == [task.id, followed_by]
    assert await ids_read_by(title="newer") == [task.id]


@contextlib.asynccontextmanager
async def counting_turns() -> AsyncIterator[list[None]]:
    """One entry for each time the block yields to the event loop."""
    turns: list[None] = []

    async def take() -> None:
        while True:
            turns.append(None)
            await asyncio.sleep(0)

    task = asyncio.create_task(take())
    try:
        yield turns
    finally:
        task.cancel()


async def test_batches_and_exports_yield_to_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, tasks = MemoryStore(), [a_task() for _ in range(5)]
    await store.commit([Write(task, "created") for task in tasks], now=tasks[0].updated_at)
    updates = [{"action": "update", "id": task.id, "patch": {"title": "new"}} for task in tasks]
    async with counting_turns() as turns:
        await commands.batch(store, Batch.model_validate({"items": updates}), None)
        assert len(turns) == len(tasks)
    monkeypatch.setattr(commands, "CALENDAR_CHUNK", 1)
    async with counting_turns() as turns:
        await commands.export(store, Query())
        assert len(turns) == len(tasks)
