"""Concurrent creations in PostgreSQL are committed together, and each is applied once."""

from __future__ import annotations

import asyncio

import pytest
from creating import DEADLINE_SECONDS, create, holding, record_of, start_group
from databases import connected
from making import NOW, a_task
from proxy import Proxy
from stores import open_store

from task_api.store import IdempotencyKeyInUse, VersionConflict
from task_api.store.postgres import PostgresStore
from task_api.tasks.models import Task

PATIENT = {"lock_seconds": DEADLINE_SECONDS, "statement_seconds": DEADLINE_SECONDS, "seconds": DEADLINE_SECONDS}


async def transactions(url: str) -> int:
    async with connected(url) as db:
        count: int = await db.fetchval("SELECT count(DISTINCT xmin::text) FROM tasks")
    return count


async def assert_each_is_there_once(url: str, *tasks: Task) -> None:
    async with open_store(url) as other:
        assert await other.get_many([task.id for task in tasks]) == {task.id: task for task in tasks}
        changes = [change.task for change in await other.changes(None, size=1000)]
    assert {task.id: [change for change in changes if change.id == task.id] for task in tasks} == {
        task.id: [task] for task in tasks
    }


async def test_waiting_creations_share_one_transaction(postgres_url: str) -> None:
    async with open_store(postgres_url, **PATIENT) as store:
        tasks = [a_task(labels=["home"] * (n % 2), title=f"number {n}") for n in range(15)]
        await asyncio.gather(*await start_group(store, postgres_url, *tasks))
    assert await transactions(postgres_url) == 2  # including the one before them
    await assert_each_is_there_once(postgres_url, *tasks)


async def test_sixteen_clients_need_less_than_a_third_of_a_commit_per_task(postgres_url: str) -> None:
    tasks = [[a_task() for _ in range(20)] for _ in range(16)]

    async def client(store: PostgresStore, own: list[Task]) -> None:
        for task in own:
            await create(store, task)
            assert await store.get(task.id) == task

    async with open_store(postgres_url) as store:
        await asyncio.gather(*(client(store, own) for own in tasks))
    assert await transactions(postgres_url) < 0.3 * 16 * 20


async def test_a_failed_creation_does_not_fail_its_group(postgres_url: str) -> None:
    async with open_store(postgres_url, **PATIENT) as store:
        taken = a_task()
        await create(store, taken)
        tasks = [a_task(), a_task(), a_task()]
        group = await start_group(store, postgres_url, tasks[0], taken, *tasks[1:])
        outcomes = await asyncio.gather(*group, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), VersionConflict, type(None), type(None)]
    await assert_each_is_there_once(postgres_url, taken, *tasks)


async def test_each_keyed_creation_gets_its_own_record(postgres_url: str) -> None:
    async with open_store(postgres_url, **PATIENT) as store:
        earlier = a_task()
        await create(store, earlier, "used")
        tasks = [a_task() for _ in range(5)]
        keys = ["new", "used", "twice", "twice"]
        outcomes = await asyncio.gather(*await start_group(store, postgres_url, *tasks, keys=keys))
        records = [await store.get_record("ann", key, now=NOW) for key in ("new", "twice")]
    assert outcomes == [None, record_of(earlier, "used"), None, record_of(tasks[2], "twice"), None]
    assert records == [record_of(tasks[0], "new"), record_of(tasks[2], "twice")]
    assert await transactions(postgres_url) == 3  # the earlier one, the one before the group, and the group
    await assert_each_is_there_once(postgres_url, earlier, tasks[0], tasks[2], tasks[4])
    async with open_store(postgres_url) as other:
        assert await other.get_many([tasks[1].id, tasks[3].id]) == {}


async def test_a_key_in_use_rejects_only_its_own_request(postgres_url: str) -> None:
    limits = {**PATIENT, "lock_seconds": 1}
    tasks = [a_task() for _ in range(4)]
    async with open_store(postgres_url, **limits) as store, connected(postgres_url) as db:
        transaction = db.transaction()
        await transaction.start()
        await db.execute("INSERT INTO idempotency_records VALUES ('ann', 'in use', 'fingerprint', 201, '{}', now())")
        group = await start_group(store, postgres_url, *tasks, keys=["free", "in use"])
        outcomes = await asyncio.gather(*group, return_exceptions=True)
        await transaction.rollback()
    assert [type(outcome) for outcome in outcomes] == [type(None), IdempotencyKeyInUse, type(None), type(None)]
    await assert_each_is_there_once(postgres_url, tasks[0], *tasks[2:])


async def test_an_in_doubt_group_commit_is_settled_one_by_one(postgres_url: str) -> None:
    cuts = 0

    def cut_once(data: bytes) -> bool:
        nonlocal cuts
        is_of_a_group = data.count(b"INSERT 0 1\0") > 1
        cuts += is_of_a_group
        return is_of_a_group

    async with Proxy(postgres_url).running() as proxy, open_store(proxy.url, **PATIENT) as store:
        proxy.before_response = cut_once
        tasks = [a_task() for _ in range(5)]
        await asyncio.gather(*await start_group(store, postgres_url, *tasks))
    assert cuts == 1
    assert await transactions(postgres_url) == 2
    await assert_each_is_there_once(postgres_url, *tasks)


async def test_a_lost_group_commit_is_repeated_one_by_one(postgres_url: str) -> None:
    tasks = [a_task() for _ in range(5)]
    async with (
        open_store(postgres_url, **PATIENT) as store,
        holding(postgres_url, tasks[1]) as holder,
        connected(postgres_url) as db,
    ):
        group = await start_group(store, postgres_url, *tasks)
        await holder.wait_for_blocked_insert()
        lost: int = await db.fetchval("SELECT pid FROM pg_locks WHERE NOT granted")
        await db.execute("SELECT pg_terminate_backend($1)", lost)
        waits = "SELECT pid FROM pg_locks WHERE NOT granted AND pid <> $1"
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await db.fetchval(waits, lost) is None:
                await asyncio.sleep(0.01)
        # They are settled sequentially, and do not take a connection each.
        assert not any(one.done() for one in group[1:])
        assert await store.get(tasks[1].id) is None
        await holder.roll_back()
        await asyncio.gather(*group)
    assert await transactions(postgres_url) == 6
    await assert_each_is_there_once(postgres_url, *tasks)


@pytest.mark.parametrize("cancelled", [0, 2], ids=["who-leads", "who-is-led"])
async def test_a_cancelled_creation_does_not_cancel_its_group(cancelled: int, postgres_url: str) -> None:
    tasks = [a_task() for _ in range(5)]
    async with open_store(postgres_url, **PATIENT) as store, holding(postgres_url, tasks[3]) as holder:
        group = await start_group(store, postgres_url, *tasks)
        await holder.wait_for_blocked_insert()
        group[cancelled].cancel()
        await asyncio.wait([group[cancelled]])
        await holder.roll_back()
        outcomes = await asyncio.gather(*group, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(type(None)) == 4
    await assert_each_is_there_once(postgres_url, *(task for n, task in enumerate(tasks) if n != cancelled))
