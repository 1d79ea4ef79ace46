"""Changes of tasks that others change at the same time, and work that leaves others their turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from types import SimpleNamespace

import pytest
from making import a_task

from task_api.store import Answer, StoreBusy, VersionConflict, Write
from task_api.store.memory import MemoryStore
from task_api.tasks import commands
from task_api.tasks.models import Batch, Status, Task, TaskPatch
from task_api.tasks.query import Query


class Overtaken(MemoryStore):
    """Somebody else is always faster, or as often as is set."""

    overtaken = 1_000_000_000

    async def commit(self, writes: Sequence[Write], answer: Answer | None = None, *, now: datetime) -> Answer | None:
        if writes[0].task.version > 1 and self.overtaken:
            self.overtaken -= 1
            clock.now += 0.5
            raise VersionConflict
        return await super().commit(writes, answer, now=now)


clock = SimpleNamespace(now=0.0)

CHANGES: dict[str, Callable[[MemoryStore, Task], Awaitable[object]]] = {
    "change": lambda store, task: commands.change(store, task.id, TaskPatch(title="new"), commands.anything),
    "delete": lambda store, task: commands.delete(store, task.id, commands.anything),
    "undelete": lambda store, task: commands.undelete(store, task.id),
    "batch": lambda store, task: commands.batch(
        store, Batch.model_validate({"items": [{"action": "update", "id": task.id, "patch": {"title": "new"}}]}), None
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
async def test_who_is_overtaken_tries_again_but_not_for_ever(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "time", SimpleNamespace(monotonic=lambda: clock.now))
    store = Overtaken()
    task = a_task()
    if kind == "undelete":
        task = task.model_copy(update={"deleted_at": task.updated_at})
    await store.commit([Write(task, "created")], now=task.updated_at)
    with pytest.raises(StoreBusy):
        await CHANGES[kind](store, task)
    store.overtaken = 3
    await CHANGES[kind](store, task)


class Touched(MemoryStore):
    """Somebody changes what came after a task just before it would be deleted."""

    async def commit(self, writes: Sequence[Write], answer: Answer | None = None, *, now: datetime) -> Answer | None:
        if writes[-1].type == "deleted" and (follower := await self.get(writes[-1].task.id)) and follower.version == 1:
            theirs = follower.model_copy(update={"version": 2, "title": "theirs"})
            await super().commit([Write(theirs, "updated")], now=now)
        return await super().commit(writes, answer, now=now)


async def test_what_somebody_changes_while_its_task_is_opened_again_is_kept() -> None:
    store = Touched()
    task = a_task(recurrence="FREQ=DAILY")
    await store.commit([Write(task, "created")], now=task.updated_at)
    await commands.change(store, task.id, TaskPatch(status=Status.DONE), commands.anything)
    done = await commands.get(store, task.id)
    await commands.change(store, task.id, TaskPatch(status=Status.TO_DO), commands.anything)
    opened = await commands.get(store, task.id)
    assert opened.followed_by == done.followed_by is not None
    follower = await commands.get(store, done.followed_by)
    assert (follower.title, follower.recurrence, opened.recurrence) == ("theirs", "FREQ=DAILY", None)


@contextlib.asynccontextmanager
async def counting_turns() -> AsyncIterator[list[None]]:
    """One for each turn that others have in the block."""
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


async def test_others_have_their_turn_with_each_change_of_a_batch_and_each_piece_of_a_calendar(
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
