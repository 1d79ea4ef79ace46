"""What every store must do. Memory is the model; SQLite and PostgreSQL must not differ from it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from uuid_utils.compat import uuid7

from task_api import store
from task_api.store import Store
from task_api.tasks.models import Status, Task

NOW = datetime(2026, 11, 23, 12, 30, 15, 123456, tzinfo=UTC)


def a_task(**differences: object) -> Task:
    whole = Task(
        id=uuid7(),
        title="Water the plants",
        description=None,
        status=Status.TODO,
        created_at=NOW,
        updated_at=NOW,
        completed_at=None,
        version=1,
    )
    return whole.model_copy(update=differences)


async def test_a_task_comes_back_as_it_was_given(tasks_store: Store) -> None:
    task = a_task(
        title="Grüße, 世界 👋 '; DROP TABLE tasks; --",
        description="two\nlines\tand a \\ backslash",
        status=Status.DONE,
        completed_at=NOW + timedelta(microseconds=1),
    )
    await tasks_store.add(task)
    assert await tasks_store.get(task.id) == task


async def test_an_unknown_id_is_no_task(tasks_store: Store) -> None:
    await tasks_store.add(a_task())
    assert await tasks_store.get(uuid7()) is None


async def test_pages_go_from_the_newest_to_the_oldest_without_gap_or_repetition(tasks_store: Store) -> None:
    tasks = [a_task(title=str(n)) for n in range(7)]
    for task in tasks:
        await tasks_store.add(task)
    first = await tasks_store.page(size=3, before=None)
    second = await tasks_store.page(size=3, before=first[-1].id)
    third = await tasks_store.page(size=3, before=second[-1].id)
    assert first + second + third == tasks[::-1]
    assert await tasks_store.page(size=3, before=third[-1].id) == []


async def test_the_next_version_takes_the_place_of_the_last(tasks_store: Store) -> None:
    task, other = a_task(), a_task(title="another")
    await tasks_store.add(task)
    await tasks_store.add(other)
    changed = task.model_copy(
        update={"version": 2, "title": "new", "description": "text", "status": Status.DONE, "completed_at": NOW}
    )
    assert await tasks_store.replace(changed) is True
    assert await tasks_store.get(task.id) == changed
    assert await tasks_store.get(other.id) == other


@pytest.mark.parametrize("version", [1, 3])
async def test_any_other_version_changes_nothing(tasks_store: Store, version: int) -> None:
    task = a_task()
    await tasks_store.add(task)
    assert await tasks_store.replace(task.model_copy(update={"version": version, "title": "late"})) is False
    assert await tasks_store.get(task.id) == task


async def test_a_task_that_is_not_there_cannot_be_replaced(tasks_store: Store) -> None:
    assert await tasks_store.replace(a_task(version=2)) is False
    assert await tasks_store.count() == 0


async def test_of_many_changes_to_one_version_exactly_one_wins(tasks_store: Store) -> None:
    task = a_task()
    await tasks_store.add(task)
    changes = [task.model_copy(update={"version": 2, "title": str(n)}) for n in range(10)]
    won = await asyncio.gather(*(tasks_store.replace(change) for change in changes))
    assert sum(won) == 1
    assert await tasks_store.get(task.id) == changes[won.index(True)]


async def test_a_removed_task_is_gone_and_cannot_be_removed_again(tasks_store: Store) -> None:
    task, other = a_task(), a_task()
    await tasks_store.add(task)
    await tasks_store.add(other)
    assert await tasks_store.remove(task.id) is True
    assert await tasks_store.get(task.id) is None
    assert await tasks_store.remove(task.id) is False
    assert await tasks_store.page(size=10, before=None) == [other]


async def test_the_count_follows(tasks_store: Store) -> None:
    assert await tasks_store.count() == 0
    tasks = [a_task() for _ in range(3)]
    for task in tasks:
        await tasks_store.add(task)
    await tasks_store.remove(tasks[0].id)
    assert await tasks_store.count() == 2


async def test_what_was_written_is_there_when_the_storage_is_opened_again(storage_url: str) -> None:
    if storage_url == "memory://":
        return  # gone, as `/health` says
    task = a_task()
    first, second = store.from_url(storage_url), store.from_url(storage_url)
    await first.open()
    await first.add(task)
    await first.close()
    await second.open()
    assert await second.get(task.id) == task
    await second.close()


async def test_two_processes_see_each_others_writes(tasks_store: Store, storage_url: str) -> None:
    if storage_url == "memory://":
        return  # why the chart refuses it with more than one replica
    other = store.from_url(storage_url)
    await other.open()
    task = a_task()
    await tasks_store.add(task)
    assert await other.get(task.id) == task
    await other.close()


async def test_many_that_open_a_new_storage_at_once_all_succeed(storage_url: str) -> None:
    stores = [store.from_url(storage_url) for _ in range(5)]
    await asyncio.gather(*(s.open() for s in stores))
    assert await asyncio.gather(*(s.count() for s in stores)) == [0] * 5
    await asyncio.gather(*(s.close() for s in stores))


async def test_closing_twice_or_before_opening_does_no_harm(storage_url: str) -> None:
    unopened = store.from_url(storage_url)
    await unopened.close()
    await unopened.close()
