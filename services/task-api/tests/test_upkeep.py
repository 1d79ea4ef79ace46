"""What is past its time is removed by the service itself."""

from __future__ import annotations

import asyncio
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


async def test_deleted_tasks_stay_for_30_days(tasks_store: Store) -> None:
    early, late = deleted(timedelta(days=30, seconds=1)), deleted(timedelta(days=29, hours=23))
    await tasks_store.commit([Write(early, "created"), Write(late, "created")], now=NOW)
    assert await upkeep.purge(tasks_store, now=NOW) == 1
    assert await tasks_store.get(early.id) is None
    assert await tasks_store.get(late.id) == late


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), RuntimeError("a defect")], ids=["lost", "defect"])
async def test_it_goes_on_after_the_storage_failed(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost(MemoryStore):
        tries = 0

        async def purge(self, *, deleted_before: datetime, answers_before: datetime) -> int:
            self.tries += 1
            if self.tries == 1:
                raise error
            second_try.set()
            return 0

    second_try = asyncio.Event()
    monkeypatch.setattr(upkeep, "EVERY_SECONDS", 0.001)
    keeping_up = asyncio.create_task(upkeep.keep_up(Lost()))
    async with asyncio.timeout(10):
        await second_try.wait()
    keeping_up.cancel()


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), RuntimeError("a defect")], ids=["lost", "defect"])
async def test_the_feeds_lag_is_measured_again_after_the_storage_failed(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lost(MemoryStore):
        tries = 0

        async def feed_lag(self) -> float:
            self.tries += 1
            if self.tries == 1:
                raise error
            second_try.set()
            return 0.0

    second_try = asyncio.Event()
    monkeypatch.setattr(feed, "MEASURE_SECONDS", 0.001)
    measuring = asyncio.create_task(feed.keep_measuring(Lost()))
    async with asyncio.timeout(10):
        await second_try.wait()
    measuring.cancel()
