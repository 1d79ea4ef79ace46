"""Connections to PostgreSQL lost during a commit: acknowledged writes persist, and are applied once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
from databases import connected
from making import NOW, a_task
from proxy import Proxy
from stores import open_store

from task_api.store import IdempotencyKeyInUse, IdempotencyRecord, StoreUnavailable, VersionConflict, Write
from task_api.store.postgres import PostgresStore
from task_api.tasks import rules
from task_api.tasks.models import Task, TaskPatch

DEADLINE_SECONDS = 30


@contextlib.asynccontextmanager
async def behind_proxy(url: str, **limits: Any) -> AsyncIterator[tuple[PostgresStore, Proxy]]:
    async with Proxy(url).running() as proxy, open_store(proxy.url, **limits) as store:
        yield store, proxy


async def create(store: PostgresStore) -> Task:
    task = a_task()
    await store.commit([Write(task, "created")], now=task.updated_at)
    return task


def cut_first(proxy: Proxy) -> list[bytes]:
    """Cuts the connection before the first response from now on; the responses are in the list."""
    responses: list[bytes] = []

    def cut(data: bytes) -> bool:
        responses.append(data)
        return len(responses) == 1

    proxy.before_response = cut
    return responses


async def test_a_transaction_on_a_frozen_connection_does_not_block_others_forever(postgres_url: str) -> None:
    async with behind_proxy(postgres_url, seconds=2, statement_seconds=0.2) as (store, proxy):
        await store.ping()
        task, other = a_task(), a_task()
        record = IdempotencyRecord("ann", "key", "fingerprint", 207, task.model_dump_json())
        frozen = False

        def freeze_after_the_first_statement(data: bytes) -> bool:
            nonlocal frozen
            if not frozen and b"INSERT 0 1\0" in data:
                frozen = True
                proxy.freeze_open()
            return False

        proxy.before_response = freeze_after_the_first_statement

        def commit() -> Awaitable[IdempotencyRecord | None]:
            # A ROLLBACK on the frozen connection would wait forever.
            committing = store.commit([Write(task, "created"), Write(other, "created")], record, now=task.updated_at)
            return asyncio.wait_for(committing, DEADLINE_SECONDS)

        # PostgreSQL does not know yet that the client is gone: the frozen transaction still holds the key.
        with pytest.raises((StoreUnavailable, IdempotencyKeyInUse)):
            await commit()
        assert frozen
        for _ in range(DEADLINE_SECONDS):
            with contextlib.suppress(StoreUnavailable, IdempotencyKeyInUse):
                await commit()
                break
            await asyncio.sleep(0.5)
        assert await store.get(task.id) == task
        assert [change.task for change in await store.changes(None, size=10)] == [task, other]


@pytest.mark.parametrize(
    ("count", "keyed", "tag"),
    [(1, False, b"INSERT 0 1\0"), (1, True, None), (2, True, b"COMMIT\0"), (0, True, b"COMMIT\0")],
    ids=["one-statement", "with-idempotency-key", "transaction", "record-alone"],
)
async def test_an_in_doubt_commit_is_settled_and_applied_once(
    count: int, keyed: bool, tag: bytes | None, postgres_url: str
) -> None:
    async with behind_proxy(postgres_url) as (store, proxy), open_store(postgres_url) as other:
        tasks = [a_task() for _ in range(count)]
        record = IdempotencyRecord("ann", "key", "fingerprint", 201, '{"a": 1}') if keyed else None
        # Without a tag: in the response of the single statement that stores the record and creates the task.
        last = tag or tasks[0].id.bytes
        cuts = 0

        def cut_once(data: bytes) -> bool:
            nonlocal cuts
            cuts += cuts == 0 and last in data
            return cuts == 1 and last in data

        proxy.before_response = cut_once
        writes = [Write(task, "created") for task in tasks]
        assert await store.commit(writes, record, now=NOW) is None
        assert cuts == 1
        assert await other.get_record("ann", "key", now=NOW) == record
        assert await other.get_many([task.id for task in tasks]) == {task.id: task for task in tasks}
        assert [change.task for change in await other.changes(None, size=10)] == tasks


async def test_an_in_doubt_update_does_not_conflict_with_itself(postgres_url: str) -> None:
    async with behind_proxy(postgres_url) as (store, proxy), open_store(postgres_url) as other:
        task = await create(store)
        changed = rules.update(task, TaskPatch(title="changed"), now=task.updated_at)
        cut = False

        def cut_and_overtake(data: bytes) -> bool:
            nonlocal cut
            if cut or b"INSERT 0 1\0" not in data:
                return False
            cut = True
            return True

        proxy.before_response = cut_and_overtake
        await store.commit([Write(changed, "updated")], now=changed.updated_at)
        assert cut
        assert await other.get(task.id) == changed
        assert [change.type for change in await other.changes(None, size=10)] == ["created", "updated"]


async def test_a_lost_update_after_that_of_another_client_is_a_conflict(postgres_url: str) -> None:
    async with behind_proxy(postgres_url) as (store, proxy), open_store(postgres_url) as other:
        task = await create(store)
        theirs, ours = (rules.update(task, TaskPatch(title=title), now=NOW) for title in ("theirs", "ours"))
        await other.commit([Write(theirs, "updated")], now=NOW)
        responses = cut_first(proxy)
        with pytest.raises(VersionConflict):
            await store.commit([Write(ours, "updated")], now=NOW)
        assert len(responses) > 1  # it was repeated
        assert await other.get(task.id) == theirs


async def test_a_lost_commit_is_not_confused_with_another_of_the_same_timestamp(postgres_url: str) -> None:
    async with behind_proxy(postgres_url) as (store, proxy), open_store(postgres_url) as other:
        first = await create(other)
        await store.ping()
        responses = cut_first(proxy)
        second = await create(store)
        assert b"INSERT" not in responses[0]  # it was lost before it was executed
        assert second.updated_at == first.updated_at
        assert await other.get(second.id) == second
        assert [change.task for change in await other.changes(None, size=10)] == [first, second]


async def test_an_update_retried_while_the_server_executes_it_is_applied_once(postgres_url: str) -> None:
    limits = {"lock_seconds": DEADLINE_SECONDS, "statement_seconds": DEADLINE_SECONDS, "seconds": DEADLINE_SECONDS}
    async with behind_proxy(postgres_url, **limits) as (store, proxy), connected(postgres_url) as other:
        task = await create(store)
        changed = rules.update(task, TaskPatch(title="changed"), now=task.updated_at)
        transaction = other.transaction()
        await transaction.start()
        await other.execute("SELECT FROM tasks WHERE id = $1 FOR UPDATE", task.id)
        committing = asyncio.create_task(store.commit([Write(changed, "updated")], now=changed.updated_at))
        async with asyncio.timeout(DEADLINE_SECONDS):
            for waiting in (1, 2):  # the server does not notice that the first client is gone
                while await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < waiting:
                    await asyncio.sleep(0.01)
                if waiting == 1:
                    proxy.cut()
            await transaction.rollback()
            assert await committing is None
        assert await store.get(task.id) == changed
        assert [change.type for change in await store.changes(None, size=10)] == ["created", "updated"]


async def test_a_record_of_another_request_is_not_confused_with_a_lost_commit(
    postgres_url: str,
) -> None:
    async with behind_proxy(postgres_url) as (store, proxy), open_store(postgres_url) as other:
        task = a_task()
        existing = IdempotencyRecord("ann", "key", "fingerprint", 201, "{}")
        await other.commit([], existing, now=task.updated_at)
        await store.ping()
        cut_first(proxy)
        record = IdempotencyRecord("ann", "key", "fingerprint", 201, task.model_dump_json())
        assert await store.commit([Write(task, "created")], record, now=task.updated_at) == existing
        assert await other.get(task.id) is None
