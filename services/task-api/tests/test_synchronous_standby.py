"""With synchronous replication, a write is acknowledged once the standby has it, and not once it is visible."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import timedelta
from typing import Any

import pytest
from creating import create, holding, start_group
from making import a_task
from replicated import Replicated, replicated
from stores import open_store

from chassis.postgres import database
from task_api.store import IdempotencyRecord, StoreBusy, StoreUnavailable, Write
from task_api.store.postgres import PostgresStore
from task_api.tasks.models import Task

pytestmark = [pytest.mark.docker, pytest.mark.postgresql]

Fault = Callable[[Replicated], Coroutine[Any, Any, object]]


@pytest.fixture(scope="module")
def pair() -> Iterator[Replicated]:
    with replicated() as both:
        yield both


LIMITS = {"seconds": 8, "statement_seconds": 7, "lock_seconds": 7}


async def end_sessions(pair: Replicated) -> None:
    assert await pair.terminate_waiting_sessions() > 0


async def restart_fast(pair: Replicated) -> None:
    await asyncio.to_thread(pair.restart_primary, "fast")


async def restart_immediate(pair: Replicated) -> None:
    await asyncio.to_thread(pair.restart_primary, "immediate")


FULL = pytest.mark.full
FAULTS = pytest.mark.parametrize(
    "inject_fault", [restart_fast, pytest.param(end_sessions, marks=FULL), pytest.param(restart_immediate, marks=FULL)]
)


async def wait_for(count: int, pair: Replicated) -> None:
    """Returns once this many commits wait for the standby."""
    async with asyncio.timeout(30):
        while await pair.waiting() < count:
            await asyncio.sleep(0.02)


def changed(task: Task, **fields: object) -> Task:
    later = task.updated_at + timedelta(seconds=1)
    return task.model_copy(update={"version": task.version + 1, "updated_at": later, **fields})


@contextlib.asynccontextmanager
async def waiting_writes(
    store: PostgresStore, pair: Replicated
) -> AsyncIterator[list[asyncio.Task[IdempotencyRecord | None]]]:
    """Two creations in one transaction, one with a key, an update and a deletion, waiting for a missing standby.

    The standby is back after the block.
    """
    first, second, plain, keyed = a_task(), a_task(), a_task(), a_task()
    for task in (first, second):
        await create(store, task)
    writes = [
        Write(changed(first, title="changed"), "updated"),
        Write(changed(second, deleted_at=second.updated_at), "deleted"),
    ]
    async with holding(pair.url, plain) as holder:
        commits = await start_group(store, pair.url, keyed, plain, keys=[str(keyed.id)])
        await holder.wait_for_blocked_insert()
        await asyncio.to_thread(pair.stop_standby)
        await holder.roll_back()
    try:
        commits += [asyncio.create_task(store.commit([write], now=write.task.updated_at)) for write in writes]
        await wait_for(3, pair)
        yield commits
    finally:
        await asyncio.to_thread(pair.start_standby)


@FAULTS
async def test_a_visible_write_missing_on_the_standby_is_not_acknowledged(
    inject_fault: Fault, pair: Replicated
) -> None:
    async with open_store(pair.url, **LIMITS) as store, waiting_writes(store, pair) as commits:
        await inject_fault(pair)
        for error in await asyncio.gather(*commits, return_exceptions=True):
            assert isinstance(error, StoreUnavailable), error
            assert not isinstance(error, StoreBusy), "StoreBusy promises that nothing was changed"


@FAULTS
async def test_a_write_is_acknowledged_once_the_standby_is_back(inject_fault: Fault, pair: Replicated) -> None:
    async with open_store(pair.url, seconds=60, statement_seconds=30, lock_seconds=30) as store:
        async with waiting_writes(store, pair) as commits:
            await inject_fault(pair)
        assert await asyncio.gather(*commits) == [None] * len(commits)


@pytest.mark.full
async def test_without_waiting_for_the_standby_a_failover_loses_acknowledged_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Proves that these tests would detect it, and that the failover is realistic."""

    async def believe(_: object) -> None:
        """Takes what is visible for durable."""

    monkeypatch.setattr(database, "make_durable", believe)
    with replicated() as pair:
        async with open_store(pair.url, seconds=4, statement_seconds=3) as store:
            task = a_task()
            await asyncio.to_thread(pair.stop_standby)
            commit = asyncio.create_task(store.commit([Write(task, "created")], now=task.updated_at))
            await wait_for(1, pair)
            await end_sessions(pair)
            assert await commit is None
            assert await store.get(task.id) == task
        await asyncio.to_thread(pair.promote)
        async with open_store(pair.standby_url) as promoted:
            assert await promoted.get(task.id) is None
