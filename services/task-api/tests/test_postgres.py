"""Specific to PostgreSQL: concurrent open transactions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from databases import connected
from making import NOW, a_task
from stores import open_store

from task_api.store import ChangesPurged, IdempotencyKeyInUse, IdempotencyRecord, OtherHistory, Write
from task_api.tasks.models import Task


async def test_readers_do_not_miss_a_change_that_commits_late(postgres_url: str) -> None:
    async with open_store(postgres_url, pool_size=1) as tasks_store, connected(postgres_url) as other:
        early, late = a_task(), a_task()
        transaction = other.transaction()
        await transaction.start()
        await other.execute(
            "INSERT INTO changes (at, type, task) VALUES (now(), 'created', $1)", early.model_dump_json()
        )
        await tasks_store.commit([Write(late, "created")], now=late.updated_at)
        # The later one is committed, but reading it now would mean missing the earlier one forever.
        assert await tasks_store.changes(None, size=10) == []
        before = await tasks_store.last_cursor()
        await transaction.commit()
        assert [change.task for change in await tasks_store.changes(before, size=10)] == [early, late]


async def test_the_feed_lags_by_the_age_of_the_oldest_change_not_yet_visible(postgres_url: str) -> None:
    now = datetime.now(UTC)
    async with open_store(postgres_url) as tasks_store, connected(postgres_url) as other:

        async def lag_with_change_at(at: datetime) -> float:
            await tasks_store.commit([Write(a_task(updated_at=at), "created")], now=at)
            return await tasks_store.feed_lag()

        async with other.transaction():
            await other.execute("SELECT pg_current_xact_id()")
            assert await lag_with_change_at(now + timedelta(hours=1)) == 0  # by the clock of another pod
            assert await lag_with_change_at(now - timedelta(hours=1)) >= 3600
        assert await tasks_store.feed_lag() == 0


@pytest.mark.parametrize("cursor", [f"{'9' * 18}.1", f"1.{'9' * 18}"])
async def test_the_longest_cursors_are_valid(cursor: str, postgres_url: str) -> None:
    async with open_store(postgres_url) as tasks_store:
        with pytest.raises(OtherHistory):
            await tasks_store.changes(cursor, size=1)


async def test_readers_miss_nothing_during_concurrent_writes(postgres_url: str) -> None:
    async with open_store(postgres_url, pool_size=5) as tasks_store:
        tasks = [a_task() for _ in range(200)]
        seen: list[UUID] = []

        async def read() -> None:
            cursor = None
            while len(seen) < len(tasks):
                for change in await tasks_store.changes(cursor, size=7):
                    cursor = change.cursor
                    seen.append(change.task.id)

        async def write(mine: list[Task]) -> None:
            for task in mine:
                await tasks_store.commit([Write(task, "created")], now=task.updated_at)

        async with asyncio.timeout(30):
            await asyncio.gather(read(), *(write(tasks[n::4]) for n in range(4)))
        assert len(seen) == len(set(seen))
        assert set(seen) == {task.id for task in tasks}


@pytest.mark.parametrize("count", [1, 2], ids=["creation", "batch"])
async def test_a_key_is_in_use_while_its_first_request_is_in_progress(count: int, postgres_url: str) -> None:
    async with open_store(postgres_url, pool_size=1) as tasks_store, connected(postgres_url) as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute(
            "INSERT INTO idempotency_records (subject, key, fingerprint, status, body, at)"
            " VALUES ('', 'k', 'f', 201, '{}', now())"
        )
        writes = [Write(a_task(), "created") for _ in range(count)]
        record = IdempotencyRecord("", "k", "f", 201, "[]")
        with pytest.raises(IdempotencyKeyInUse):
            await tasks_store.commit(writes, record, now=NOW)
        assert await tasks_store.count() == 0

        # If it ends in time, the request waits for it.
        waiting = asyncio.create_task(tasks_store.commit(writes, record, now=NOW))
        await transaction.commit()
        existing = await waiting
        assert existing is not None
        assert existing.body == "{}"


async def test_lagging_readers_get_an_error_after_a_purge_by_another_pod(postgres_url: str) -> None:
    """As when two pods with different clocks purge concurrently."""
    async with open_store(postgres_url) as tasks_store, connected(postgres_url) as other:
        task = a_task()
        await tasks_store.commit([Write(task, "created")], now=task.updated_at)
        cursor = await tasks_store.last_cursor()
        await other.execute("UPDATE changes_purged SET (xid, number) = (SELECT xid, number + 1 FROM changes)")
        later = task.updated_at + timedelta(seconds=1)
        await tasks_store.purge(deleted_before=later, records_before=later)
        assert await other.fetchval("SELECT count(*) FROM changes") == 0
        with pytest.raises(ChangesPurged):
            await tasks_store.changes(cursor, size=10)


async def test_a_purge_may_take_longer_than_a_request(postgres_url: str) -> None:
    slow = """
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1.1); RETURN old; END';
        CREATE TRIGGER slow BEFORE DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION slow()
    """
    async with (
        open_store(postgres_url, seconds=1, statement_seconds=1) as tasks_store,
        connected(postgres_url) as other,
    ):
        await other.execute(slow)
        deleted = a_task(deleted_at=NOW)
        await tasks_store.commit([Write(deleted, "created")], now=NOW)
        later = NOW + timedelta(seconds=1)
        assert await tasks_store.purge(deleted_before=later, records_before=later) == 1


async def test_changes_not_yet_visible_are_not_purged(postgres_url: str) -> None:
    async with open_store(postgres_url) as tasks_store, connected(postgres_url) as other:
        before = await tasks_store.last_cursor()
        task = a_task()
        transaction = other.transaction()
        await transaction.start()
        await other.execute("SELECT pg_current_xact_id()")  # it may still insert a change before the next one
        await tasks_store.commit([Write(task, "created")], now=task.updated_at)
        later = task.updated_at + timedelta(seconds=1)
        await tasks_store.purge(deleted_before=later, records_before=later)
        await transaction.commit()
        assert [change.task for change in await tasks_store.changes(before, size=10)] == [task]


async def test_a_concurrent_purge_leaves_no_undetected_gap(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(postgres_url) as reader, open_store(postgres_url) as purger, connected(postgres_url) as db:
        tasks = [a_task() for _ in range(2)]
        for task in tasks:
            await purger.commit([Write(task, "created")], now=task.updated_at)
        first, _ = await purger.changes(None, size=2)

        class Purged:
            """A connection on which everything is purged between the first query and the next."""

            def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
                async def ask(*arguments: Any) -> Any:
                    result = await getattr(db, name)(*arguments)
                    later = tasks[0].updated_at + timedelta(seconds=1)
                    await purger.purge(deleted_before=later, records_before=later)
                    return result

                return ask

        async def run(work: Callable[[Any], Awaitable[Any]]) -> Any:
            return await work(Purged())

        monkeypatch.setattr(reader, "_run", run)
        with pytest.raises(ChangesPurged):
            await reader.changes(first.cursor, size=10)
