"""PostgreSQL is down, hangs, rejects or is slow: every wait is bounded, and whatever can be retried is."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from databases import BLOCKED, connected, pool_of
from note_stores import TEXT, add, behind_proxy, open_store
from notes.store import LOCK, NotesStore, metrics
from prometheus_client import REGISTRY
from proxy import Proxy
from running import NOTES

from chassis.postgres import database, schema
from chassis.postgres.database import Limits
from chassis.postgres.schema import MIGRATION_CONNECT_SECONDS
from chassis.storage import StoreBusy, StoreUnavailable

DEADLINE_SECONDS = 30


def retries() -> dict[str, float]:
    """The number of retries so far, by SQLSTATE."""
    return {
        sample.labels["sqlstate"]: sample.value
        for family in REGISTRY.collect()
        if family.name == "notes_db_retries"
        for sample in family.samples
    }


def increase(before: dict[str, float]) -> dict[str, float]:
    """The number of retries since `before`."""
    return {state: count - before.get(state, 0) for state, count in retries().items() if count > before.get(state, 0)}


async def test_a_cut_connection_is_replaced_within_the_request(postgres_url: str) -> None:
    async with behind_proxy(postgres_url) as (store, proxy):
        note = await add(store)
        for _ in range(10):
            proxy.cut()
            assert await store.get(note) == TEXT


async def test_a_restart_of_the_server_does_not_require_one_of_the_service(postgres_url: str) -> None:
    async with behind_proxy(postgres_url, pool_size=3) as (store, proxy):
        note = await add(store)
        await asyncio.gather(*(store.get(note) for _ in range(20)))
        proxy.before_response = lambda _: True  # new connections are closed, as by a server that is shutting down
        with pytest.raises(StoreUnavailable):
            await store.get(note)
        proxy.before_response = None
        assert await store.get(note) == TEXT


@pytest.mark.parametrize("operation", ["get", "add", "ping"])
async def test_a_half_open_connection_blocks_no_request_beyond_the_limit(operation: str, postgres_url: str) -> None:
    async with behind_proxy(postgres_url, seconds=0.5, statement_seconds=0.2, pool_size=2) as (store, proxy):
        note = await add(store)
        proxy.freeze()
        work: dict[str, Callable[[], Any]] = {
            "get": lambda: store.get(note),
            "add": lambda: add(store),
            "ping": store.ping,
        }
        start = time.monotonic()
        results = await asyncio.gather(*(work[operation]() for _ in range(20)), return_exceptions=True)
        assert time.monotonic() - start < 10  # without the limit of half a second, forever; the machine may be busy
        assert {type(result) for result in results} <= {StoreUnavailable, StoreBusy}
        # Frozen connections are discarded, so the next request does not need them to thaw.
        proxy.thaw()
        assert await store.get(note) == TEXT


@contextlib.asynccontextmanager
async def frozen_during_migration(url: str, when: bytes, **settings: str) -> AsyncIterator[tuple[Process, Proxy]]:
    """Starts the service as a process; its connections freeze for good at the response that contains these bytes."""
    froze = asyncio.Event()

    def freeze(response: bytes) -> bool:
        if when in response and not froze.is_set():
            proxy.freeze_open()
            froze.set()
        return False

    async with Proxy(url).running() as proxy:
        proxy.before_response = freeze
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "notes", "serve", "--port", "0"),
            env=NOTES.environment(NOTES_DATABASE_URL=proxy.url, **settings),
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await froze.wait()
                yield process, proxy
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


STAGES = {"look-up": b"to_regclass", "lock": b"SET\0", "migration": b"pg_advisory_xact_lock"}
"""What a response contains before the service waits for the next one."""


@pytest.mark.parametrize("stage", STAGES)
async def test_a_signal_stops_a_startup_whose_migration_froze(stage: str, postgres_url: str) -> None:
    async with frozen_during_migration(postgres_url, STAGES[stage]) as (process, _):
        process.terminate()
        start = time.monotonic()
        assert await process.wait() == 0
        # Without waiting for a graceful close that gets no response, and a second attempt.
        assert time.monotonic() - start < MIGRATION_CONNECT_SECONDS


@pytest.mark.parametrize("stage", STAGES)
async def test_a_frozen_migration_times_out(stage: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for bound in ("CONNECT", "WAIT"):
        monkeypatch.setattr(schema, f"MIGRATION_{bound}_SECONDS", 1.0)
    monkeypatch.setattr(schema, "MIGRATION_SECONDS", 1.0)

    def freeze(response: bytes) -> bool:
        if STAGES[stage] in response:
            proxy.freeze_open()
        return False

    async with Proxy(postgres_url).running() as proxy, asyncio.timeout(DEADLINE_SECONDS):
        proxy.before_response = freeze
        store = NotesStore(proxy.url, limits=Limits(), wait_seconds=0)
        with pytest.raises(StoreUnavailable, match="cannot be reached"):  # which is retried for wait_seconds
            await store.open()


async def test_startup_blocked_by_a_hung_migration_reports_how_to_terminate_it(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MIGRATION_WAIT_SECONDS", 1.0)
    store = NotesStore(postgres_url, limits=Limits(), wait_seconds=0)
    hung = await asyncpg.connect(postgres_url)
    await hung.execute(f"SELECT pg_advisory_lock({LOCK})")
    with pytest.raises(StoreUnavailable, match="Another session has held the migration lock") as raised:
        await store.open()
    statement = str(raised.value).partition("terminated: ")[2]
    async with connected(postgres_url) as admin:
        assert await admin.fetchval(statement)
    await store.open()
    await store.close()


@pytest.mark.parametrize(
    "rejection",
    [
        asyncpg.InvalidPasswordError('password authentication failed for user "me"'),
        asyncpg.InvalidAuthorizationSpecificationError('role "me" is not permitted to log in'),
        asyncpg.InvalidCatalogNameError('database "tasks" does not exist'),
        asyncpg.InsufficientPrivilegeError('permission denied for database "tasks"'),
    ],
    ids=lambda rejection: type(rejection).__name__,
)
async def test_a_server_that_rejects_logins_is_an_unavailable_storage(
    rejection: asyncpg.PostgresError, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reject(*_: object, **__: object) -> None:
        raise rejection

    async with open_store(postgres_url) as store:
        monkeypatch.setattr(asyncpg, "connect", reject)
        with pytest.raises(StoreUnavailable, match=str(rejection)):
            await store.ping()
        monkeypatch.undo()
        await store.ping()


async def test_frozen_idle_connections_cost_one_attempt_in_total(postgres_url: str) -> None:
    async with behind_proxy(postgres_url, seconds=10, statement_seconds=0.2, pool_size=3) as (store, proxy):
        note = await add(store)
        await asyncio.gather(*(store.get(note) for _ in range(3)))
        before = retries()
        proxy.freeze_open()
        assert await store.get(note) == TEXT
        assert increase(before) == {"timeout": 1}


async def test_waiters_for_a_broken_connection_open_a_new_one(postgres_url: str) -> None:
    async with behind_proxy(postgres_url, seconds=10, statement_seconds=0.2, pool_size=1) as (store, proxy):
        note = await add(store)
        before = retries()
        proxy.freeze_open()
        assert await asyncio.gather(*(store.get(note) for _ in range(5))) == [TEXT] * 5
        assert increase(before) == {"timeout": 1}  # the one that used it; the others only waited


async def test_waiting_too_long_for_a_connection_fails_as_busy(postgres_url: str) -> None:
    now = asyncio.get_running_loop().time
    async with pool_of(postgres_url, size=1, metrics=metrics) as pool:
        connection = await pool.acquire(deadline=now() + DEADLINE_SECONDS)
        with pytest.raises(StoreBusy, match="none of 1 connections became free in time"):
            await pool.acquire(deadline=now() + 0.3)
        pool.release(connection)
        pool.release(await pool.acquire(deadline=now() + DEADLINE_SECONDS))


async def test_a_connection_released_after_the_pool_was_closed_is_terminated(postgres_url: str) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
    async with pool_of(postgres_url, size=1, metrics=metrics) as pool:
        connection = await pool.acquire(deadline=deadline)
        waiter = asyncio.create_task(pool.acquire(deadline=deadline))
        await asyncio.sleep(0)
        await pool.close()
        pool.release(connection)
        assert await waiter is connection  # its request was admitted before
        assert not connection.is_closed()
        pool.release(connection)
        assert connection.is_closed()


async def test_opening_a_connection_is_bounded_by_the_requests_deadline(postgres_url: str) -> None:
    now = asyncio.get_running_loop().time
    async with Proxy(postgres_url).running() as proxy, pool_of(proxy.url, size=1, metrics=metrics) as pool:
        pool.release(await pool.acquire(deadline=now() + DEADLINE_SECONDS))
        pool.discard_idle()
        proxy.freeze()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(DEADLINE_SECONDS) as outer:
                await pool.acquire(deadline=now() + 0.1)
        assert not outer.expired()


async def test_a_slow_network_is_tolerated(postgres_url: str) -> None:
    async with behind_proxy(postgres_url) as (store, proxy):
        note = await add(store)
        proxy.delay(0.1)
        assert await store.get(note) == TEXT


async def test_an_in_doubt_write_is_resolved_and_applied_once(postgres_url: str) -> None:
    async with behind_proxy(postgres_url) as (store, proxy):
        cuts = 0

        def cut_once(data: bytes) -> bool:
            nonlocal cuts
            cuts += cuts == 0 and b"INSERT 0 1\0" in data
            return cuts == 1 and b"INSERT 0 1\0" in data

        proxy.before_response = cut_once
        note = uuid4()
        await store.add(note, TEXT)  # which fails if it is executed twice
        assert cuts == 1
        assert await store.get(note) == TEXT


async def test_a_write_found_committed_is_durable_before_it_is_acknowledged(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the standby this waits; services/task-api/tests/test_synchronous_standby.py has one."""
    real = database.make_durable
    async with behind_proxy(postgres_url) as (store, proxy), connected(postgres_url) as other:
        note, texts = uuid4(), []

        async def make_durable(db: asyncpg.Connection[asyncpg.Record]) -> None:
            texts.append(await other.fetchval("SELECT text FROM notes WHERE id = $1", note))
            before = await other.fetchval("SELECT pg_current_wal_flush_lsn()::text")
            await real(db)
            assert await other.fetchval("SELECT pg_current_wal_flush_lsn() > $1::text::pg_lsn", before)

        def cut_once(data: bytes) -> bool:
            if b"INSERT 0 1\0" not in data:
                return False
            proxy.before_response = None
            return True

        monkeypatch.setattr(database, "make_durable", make_durable)
        proxy.before_response = cut_once
        await store.add(note, TEXT)
        assert texts == [TEXT]


async def test_a_deadlock_is_retried(postgres_url: str) -> None:
    async with open_store(postgres_url, pool_size=2, lock_seconds=5) as store:
        one, two = await add(store), await add(store)
        before = retries()
        # Each holds the lock that the other needs next: PostgreSQL aborts one of them after a second.
        async with connected(postgres_url) as other, asyncio.timeout(DEADLINE_SECONDS):
            transaction = other.transaction()
            await transaction.start()
            await other.execute("SELECT FROM notes WHERE id = $1 FOR UPDATE", two)
            replacing = asyncio.create_task(store.replace([one, two], "left"))
            while not await other.fetchval(BLOCKED):
                await asyncio.sleep(0.01)
            await other.execute("SET LOCAL deadlock_timeout = '60s'")  # so that the store is the deadlock victim
            await other.execute("SELECT FROM notes WHERE id = $1 FOR UPDATE", one)
            await transaction.rollback()
            await replacing
        assert "40P01" in increase(before)
        assert [await store.get(note) for note in (one, two)] == ["left", "left"]


async def test_a_slow_statement_is_cancelled_by_the_server(postgres_url: str) -> None:
    async with open_store(postgres_url, statement_seconds=0.2) as store:
        note = await add(store)
        async with connected(postgres_url) as other, other.transaction():
            await other.execute("LOCK TABLE notes")
            with pytest.raises(StoreUnavailable, match="statement timeout"):
                await store.get(note)
            assert await other.fetchval(BLOCKED) == 0
        assert await store.get(note) == TEXT


async def test_the_wait_for_a_lock_is_bounded_by_its_setting(postgres_url: str) -> None:
    async with open_store(postgres_url, lock_seconds=0.2) as store:
        note = await add(store)
        async with connected(postgres_url) as other, other.transaction():
            await other.execute("LOCK TABLE notes")
            with pytest.raises(StoreUnavailable, match="lock timeout"):
                await store.get(note)


async def test_startup_retries_while_there_are_too_many_connections(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(postgres_url, pool_size=1) as store, connected(postgres_url) as admin:
        role = await _create_role(admin, "CONNECTION LIMIT 1")
        try:
            url = _with_role(role, postgres_url)
            holder = await asyncpg.connect(url)
            limited_store = NotesStore(url, limits=Limits(), wait_seconds=DEADLINE_SECONDS)
            opening = asyncio.create_task(limited_store.open())
            async with asyncio.timeout(DEADLINE_SECONDS):
                while "too many connections for role" not in caplog.text and not opening.done():
                    await asyncio.sleep(0.01)
            await holder.close()
            await opening
            await limited_store.ping()
            await limited_store.close()
            await store.ping()
        finally:
            await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_server_that_became_read_only_is_replaced_by_the_new_primary(postgres_url: str) -> None:
    """As after a failover behind a proxy: the next connection may reach the new primary."""
    async with open_store(postgres_url), connected(postgres_url) as admin:
        role = await _create_role(admin, "")
        try:
            async with open_store(_with_role(role, postgres_url)) as store:
                await admin.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")
                await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role)
                before = retries()
                adding = asyncio.create_task(add(store))
                async with asyncio.timeout(DEADLINE_SECONDS):
                    while "25006" not in increase(before) and not adding.done():
                        await asyncio.sleep(0.01)
                await admin.execute(f"ALTER ROLE {role} RESET default_transaction_read_only")
                assert await store.get(await adding) == TEXT
        finally:
            await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_requests_beyond_the_queue_limit_are_rejected_immediately(postgres_url: str) -> None:
    async with open_store(postgres_url, pool_size=1, queue_size=2, lock_seconds=5, statement_seconds=5) as store:
        note = await add(store)
        async with connected(postgres_url) as other:
            transaction = other.transaction()
            await transaction.start()
            await other.execute("LOCK TABLE notes")
            admitted = [asyncio.create_task(store.get(note)) for _ in range(3)]  # one runs, two wait
            await asyncio.sleep(0)
            with pytest.raises(StoreBusy):
                await store.get(note)
            await transaction.rollback()
        assert await asyncio.gather(*admitted) == [TEXT] * 3


async def test_cancelled_waiters_leak_no_connection(postgres_url: str) -> None:
    async with open_store(postgres_url, pool_size=2) as store:
        note = await add(store)
        for round_ in range(50):
            readers = [asyncio.create_task(store.get(note)) for _ in range(10)]
            for _ in range(round_ % 5):
                await asyncio.sleep(0)
            for reader in readers[::2]:
                reader.cancel()
            results = await asyncio.gather(*readers, return_exceptions=True)
            assert [result for result in results[1::2] if result != TEXT] == []
        assert await asyncio.gather(*(store.get(note) for _ in range(10))) == [TEXT] * 10
        gauges = {
            name: REGISTRY.get_sample_value(f"notes_db_pool_{name}") for name in ("connections", "idle_connections")
        }
        assert gauges["connections"] == gauges["idle_connections"]
        assert gauges["connections"] in {1, 2}


async def test_a_connection_that_was_idle_for_long_is_replaced(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with behind_proxy(postgres_url) as (store, proxy):
        await store.ping()
        await store.ping()
        opened_before = proxy.opened
        now = time.perf_counter
        monkeypatch.setattr(time, "perf_counter", lambda: now() + 61)
        await store.ping()
        assert proxy.opened == opened_before + 1


async def _create_role(admin: asyncpg.Connection[asyncpg.Record], options: str) -> str:
    schema = await admin.fetchval("SELECT current_schema()")
    name = f"role_{schema}"
    await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x' {options}; GRANT ALL ON SCHEMA {schema} TO {name}")
    await admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {name}")
    return name


def _with_role(role: str, url: str) -> str:
    """The URL with a role that `_create_role` created, instead of the server's owner."""
    return re.sub(r"//[^@]+@", f"//{role}:x@", url)
