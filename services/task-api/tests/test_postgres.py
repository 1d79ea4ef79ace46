"""What is PostgreSQL's alone: a server that is late, gone, or refuses."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import pytest
from databases import connected
from making import a_task
from stores import opened

from task_api.store import Answer, KeyInUse, Limits, StoreUnavailable, Write
from task_api.store.postgres import PostgresStore
from task_api.tasks.models import Task


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    port = _free_port()
    url = f"postgresql://me:hunter2@127.0.0.1:{port}/tasks"
    nowhere = PostgresStore(url, limits=Limits(pool_size=1), wait_seconds=0)
    with pytest.raises(StoreUnavailable) as error:
        await nowhere.open()
    assert f"127.0.0.1:{port}/tasks" in str(error.value)
    assert "hunter2" not in str(error.value)


async def test_a_server_that_starts_late_is_waited_for(postgres_url: str) -> None:
    real = urlsplit(postgres_url)
    port = _free_port()
    late = PostgresStore(
        urlunsplit(real._replace(netloc=f"{real.username}:{real.password}@127.0.0.1:{port}")),
        limits=Limits(pool_size=1),
        wait_seconds=30,
    )
    opening = asyncio.create_task(late.open())
    await asyncio.sleep(0)  # the first attempt finds nobody

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(real.hostname, real.port)
        await asyncio.gather(_pump(reader, to_server), _pump(from_server, writer))

    proxy = await asyncio.start_server(forward, "127.0.0.1", port)
    try:
        await opening
        await late.ping()
    finally:
        await late.close()
        proxy.close()
        await proxy.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
    await writer.wait_closed()


async def test_a_role_that_may_not_log_in_ends_at_once_and_says_so(postgres_url: str) -> None:
    real = urlsplit(postgres_url)
    stranger = urlunsplit(real._replace(netloc=f"stranger:hunter2@{real.hostname}:{real.port}"))
    async with connected(postgres_url) as admin:
        await admin.execute("CREATE ROLE stranger NOLOGIN")
        try:
            with pytest.raises(StoreUnavailable, match=r"refused.*TASKS_DATABASE_URL") as error:
                await PostgresStore(stranger, limits=Limits(pool_size=1), wait_seconds=60).open()
            assert "hunter2" not in str(error.value)
        finally:
            await admin.execute("DROP ROLE stranger")


async def test_connections_cut_by_the_server_are_replaced(postgres_url: str) -> None:
    async with opened(postgres_url, pool_size=1) as tasks_store, connected(postgres_url) as admin:
        for _ in range(20):  # the moment in which asyncpg hears of it differs
            await tasks_store.ping()
            cut = await admin.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert cut >= 1
            async with asyncio.timeout(30):
                while True:
                    with contextlib.suppress(StoreUnavailable):  # a request on a connection that was cut may fail
                        await tasks_store.ping()
                        break


async def test_a_request_is_one_round_trip(postgres_url: str) -> None:
    """What asyncpg's own pool sends after each use of a connection would be a second one."""
    async with opened(postgres_url, pool_size=1) as tasks_store, connected(postgres_url) as admin:
        await tasks_store.count()
        last = await admin.fetch(
            "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert [query for (query,) in last if "count(*)" in query]


async def test_a_change_whose_transaction_commits_late_is_not_missed(postgres_url: str) -> None:
    async with opened(postgres_url, pool_size=1) as tasks_store, connected(postgres_url) as other:
        early, late = a_task(), a_task()
        transaction = other.transaction()
        await transaction.start()
        await other.execute(
            "INSERT INTO changes (at, type, task) VALUES (now(), 'created', $1)", early.model_dump_json()
        )
        await tasks_store.commit([Write(late, "created")], now=late.updated_at)
        # The later one is committed, but to read it now would be to miss the earlier one for ever.
        assert await tasks_store.changes(None, size=10) == []
        before = await tasks_store.last_position()
        await transaction.commit()
        assert [change.task for change in await tasks_store.changes(before, size=10)] == [early, late]


async def test_readers_miss_nothing_while_many_write(postgres_url: str) -> None:
    async with opened(postgres_url, pool_size=5) as tasks_store:
        tasks = [a_task() for _ in range(200)]
        seen: list[UUID] = []

        async def read() -> None:
            position = None
            while len(seen) < len(tasks):
                for change in await tasks_store.changes(position, size=7):
                    position = change.position
                    seen.append(change.task.id)

        async def write(mine: list[Task]) -> None:
            for task in mine:
                await tasks_store.commit([Write(task, "created")], now=task.updated_at)

        async with asyncio.timeout(30):
            await asyncio.gather(read(), *(write(tasks[n::4]) for n in range(4)))
        assert len(seen) == len(set(seen))
        assert set(seen) == {task.id for task in tasks}


async def test_a_key_whose_first_request_does_not_end_is_in_use(postgres_url: str) -> None:
    async with opened(postgres_url, pool_size=1) as tasks_store, connected(postgres_url) as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute(
            "INSERT INTO answers (subject, key, fingerprint, status, body, at) VALUES ('', 'k', 'f', 201, '{}', now())"
        )
        task = a_task()
        answer = Answer("", "k", "f", 201, "[]")
        with pytest.raises(KeyInUse):
            await tasks_store.commit([Write(task, "created")], answer, now=task.updated_at)
        assert await tasks_store.get(task.id) is None

        # One that ends in time is waited for.
        waiting = asyncio.create_task(tasks_store.commit([Write(task, "created")], answer, now=task.updated_at))
        await transaction.commit()
        kept = await waiting
        assert kept is not None
        assert kept.body == "{}"
