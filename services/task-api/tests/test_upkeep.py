"""The service purges expired data."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta

import pytest
from making import a_task

from task_api.store import Store, StoreUnavailable, Write
from task_api.store.memory import MemoryStore
from task_api.tasks import feed, upkeep
from task_api.tasks.models import Task

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def deleted(ago: timedelta) -> Task:
    return a_task(created_at=NOW - ago, updated_at=NOW - ago, deleted_at=NOW - ago)


async def test_deleted_tasks_are_kept_for_30_days(tasks_store: Store) -> None:
    early, late = deleted(timedelta(days=30, seconds=1)), deleted(timedelta(days=29, hours=23))
    await tasks_store.commit([Write(early, "created"), Write(late, "created")], now=NOW)
    assert await upkeep.purge(tasks_store, now=NOW) == 1
    assert await tasks_store.get(early.id) is None
    assert await tasks_store.get(late.id) == late


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), RuntimeError("a defect")], ids=["lost", "defect"])
@pytest.mark.parametrize(
    ("work", "asks"), [(upkeep.purge_periodically, "purge"), (feed.measure_lag, "feed_lag")], ids=["upkeep", "lag"]
)
async def test_background_work_continues_after_a_storage_failure(
    work: Callable[[Store], Coroutine[None, None, None]], asks: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0
    second_try = asyncio.Event()

    async def fail_once(**_: object) -> int:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise error
        second_try.set()
        return 0

    store = MemoryStore()
    monkeypatch.setattr(store, asks, fail_once)
    monkeypatch.setattr(upkeep, "EVERY_SECONDS", 0.001)
    monkeypatch.setattr(feed, "MEASURE_SECONDS", 0.001)
    working = asyncio.create_task(work(store))
    async with asyncio.timeout(10):
        await second_try.wait()
    working.cancel()
