"""The connection pool, with fake connections; with real ones, see test_database_trouble.py."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from notes.store import metrics
from prometheus_client import REGISTRY

from chassis.postgres.pool import IDLE_SECONDS, Pool
from chassis.postgres.wait_limit import WaitLimit
from chassis.storage import StoreBusy

MAX_SIZE, MAX_WAITING = 2, 3
FAR = 1e9
"""A deadline that no test reaches, by the event loop's clock."""
pytestmark = pytest.mark.timeout(30)  # of a waiter that nothing wakes


class Connection:
    def __init__(self) -> None:
        self.end = ""

    def is_closed(self) -> bool:
        return bool(self.end)

    def terminate(self) -> None:
        self.end = "terminated"

    async def close(self) -> None:
        self.end = "closed"


class Server:
    """Opens connections; the test may make it hang, or fail."""

    def __init__(self) -> None:
        self.opened: list[Connection] = []
        self.error: Exception | None = None
        self.hangs = False

    async def connect(self) -> Any:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        self.opened.append(Connection())
        return self.opened[-1]


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def pool(server: Server) -> Pool:
    return Pool(server.connect, max_size=MAX_SIZE, wait_limit=WaitLimit(MAX_WAITING, metrics), metrics=metrics)


def metric(name: str) -> float:
    value = REGISTRY.get_sample_value(f"notes_db_{name}")
    assert value is not None
    return value


def counts() -> tuple[float, float, float]:
    """The numbers of open and of idle connections, and of waiters."""
    return metric("pool_connections"), metric("pool_idle_connections"), metric("pool_waiting")


async def acquire(pool: Pool, number: int = 1) -> list[Any]:
    return [await pool.acquire(deadline=FAR) for _ in range(number)]


async def start(pool: Pool, number: int = 1, deadline: float = FAR) -> list[asyncio.Task[Any]]:
    """Calls of `acquire` that have begun to wait, in this order."""
    tasks = [asyncio.create_task(pool.acquire(deadline=deadline)) for _ in range(number)]
    await asyncio.sleep(0)
    return tasks


async def test_the_most_recently_used_connection_is_reused(pool: Pool, server: Server) -> None:
    one, other = await acquire(pool, 2)
    assert counts() == (2, 0, 0)
    pool.release(one)
    pool.release(other)
    assert counts() == (2, 2, 0)
    assert await acquire(pool, 2) == [other, one]
    assert server.opened == [one, other]
    assert metric("pool_max_connections") == MAX_SIZE


async def test_a_connection_that_was_idle_for_a_minute_is_replaced(pool: Pool, server: Server, clock: Clock) -> None:
    (connection,) = await acquire(pool)
    pool.release(connection)
    clock.seconds += IDLE_SECONDS - 0.5
    assert await acquire(pool) == [connection]
    pool.release(connection)
    clock.seconds += IDLE_SECONDS
    (replacement,) = await acquire(pool)
    assert connection.end == "terminated"
    assert server.opened == [connection, replacement]
    assert counts() == (1, 0, 0)


async def test_idle_connections_that_were_closed_are_replaced(pool: Pool) -> None:
    connections = await acquire(pool, 2)
    for connection in connections:
        pool.release(connection)
        connection.terminate()
    (replacement,) = await acquire(pool)
    assert replacement not in connections
    assert counts() == (1, 0, 0)


async def test_waiters_get_the_next_connections_in_order(pool: Pool, server: Server) -> None:
    connections = await acquire(pool, MAX_SIZE)
    waiters = await start(pool, MAX_WAITING)
    assert counts() == (2, 0, 3)
    waiters[0].cancel()
    for connection in connections:
        pool.release(connection)
    assert [await waiter for waiter in waiters[1:]] == connections
    assert counts() == (2, 0, 0)
    assert server.opened == connections


@pytest.mark.parametrize("is_closed", [False, True])
async def test_a_waiter_opens_a_connection_in_the_slot_of_a_broken_one(pool: Pool, is_closed: bool) -> None:
    connections = await acquire(pool, MAX_SIZE)
    waiters = await start(pool, MAX_WAITING)
    waiters[0].cancel()
    for connection in connections:
        if is_closed:
            connection.terminate()
            pool.release(connection)
        else:
            pool.discard(connection)
        assert connection.end == "terminated"
    replacements = [await waiter for waiter in waiters[1:]]
    assert not set(replacements) & set(connections)
    assert counts() == (2, 0, 0)
    for connection in replacements:
        pool.discard(connection)
    assert counts() == (0, 0, 0)


async def test_the_queue_is_limited_except_for_callers_that_waited_already(pool: Pool) -> None:
    (connection, _) = await acquire(pool, MAX_SIZE)
    waiters = await start(pool, MAX_WAITING)
    with pytest.raises(StoreBusy, match="3 requests are already waiting"):
        await pool.acquire(deadline=FAR)
    late = asyncio.create_task(pool.acquire(deadline=FAR, waited=0.5))
    await asyncio.sleep(0)
    assert counts() == (2, 0, 4)
    for waiter in [*waiters, late]:
        pool.release(connection)
        assert await waiter is connection


async def test_waiting_too_long_fails_as_busy_and_leaves_the_queue(pool: Pool) -> None:
    connections = await acquire(pool, MAX_SIZE)
    rejected = metric("rejected_total")
    (waiter,) = await start(pool, deadline=0.0)
    with pytest.raises(StoreBusy, match="none of 2 connections became free in time"):
        await waiter
    assert metric("rejected_total") == rejected + 1
    assert counts() == (2, 0, 0)
    for connection in connections:
        pool.release(connection)
    assert counts() == (2, 2, 0)


async def test_a_cancelled_waiter_leaves_the_queue(pool: Pool) -> None:
    await acquire(pool, MAX_SIZE)
    waiters = await start(pool, 2)
    waiters[0].cancel()
    await asyncio.wait(waiters[:1])
    assert waiters[0].cancelled()
    assert counts() == (2, 0, 1)
    waiters[1].cancel()


async def test_a_waiter_cancelled_just_as_it_got_a_connection_returns_it(pool: Pool) -> None:
    (connection, _) = await acquire(pool, MAX_SIZE)
    waiters = await start(pool, 2)
    pool.release(connection)
    waiters[0].cancel()
    assert await waiters[1] is connection
    assert waiters[0].cancelled()
    assert counts() == (2, 0, 0)


async def test_a_waiter_cancelled_just_as_it_got_a_slot_returns_it(pool: Pool, server: Server) -> None:
    (connection, _) = await acquire(pool, MAX_SIZE)
    waiters = await start(pool, 2)
    pool.discard(connection)
    waiters[0].cancel()
    assert await waiters[1] is server.opened[-1]
    assert waiters[0].cancelled()
    assert counts() == (2, 0, 0)


async def test_a_failure_to_connect_frees_the_slot(pool: Pool, server: Server) -> None:
    server.error = ConnectionRefusedError()
    for _ in range(MAX_SIZE + 1):
        with pytest.raises(ConnectionRefusedError):
            await acquire(pool)
    assert counts() == (0, 0, 0)
    server.hangs = True
    connecting = await start(pool, MAX_SIZE)
    (waiter,) = await start(pool)
    server.hangs, server.error = False, None
    connecting[0].cancel()
    assert await waiter is server.opened[0]
    assert counts() == (2, 0, 0)
    connecting[1].cancel()
    await asyncio.wait(connecting)
    assert counts() == (1, 0, 0)


async def test_connecting_ends_at_the_deadline(pool: Pool, server: Server) -> None:
    server.hangs = True
    with pytest.raises(TimeoutError):
        await pool.acquire(deadline=0.0)
    assert counts() == (0, 0, 0)


async def test_idle_connections_can_be_discarded(pool: Pool) -> None:
    connections = await acquire(pool, MAX_SIZE)
    for connection in connections:
        pool.release(connection)
    pool.discard_idle()
    assert [connection.end for connection in connections] == ["terminated"] * 2
    assert counts() == (0, 0, 0)


async def test_a_closed_pool_closes_idle_connections_and_terminates_the_others(pool: Pool) -> None:
    idle, used = await acquire(pool, 2)
    pool.release(idle)
    await pool.close()
    assert (idle.end, used.end) == ("closed", "")
    assert counts() == (1, 0, 0)
    pool.release(used)
    assert used.end == "terminated"
    assert counts() == (0, 0, 0)


async def test_the_wait_of_each_caller_is_measured(pool: Pool, clock: Clock) -> None:
    def measured() -> tuple[float, float]:
        return metric("pool_acquire_seconds_count") - before[0], metric("pool_acquire_seconds_sum") - before[1]

    before = 0.0, 0.0
    before = measured()
    connection, other = await acquire(pool, 2)
    assert measured() == (2, 0)
    pool.release(connection)
    await pool.acquire(deadline=FAR, waited=2.0)
    assert measured() == (3, 2)
    waiter = asyncio.create_task(pool.acquire(deadline=FAR, waited=1.0))
    await asyncio.sleep(0)
    clock.seconds += 4.0
    pool.release(other)
    await waiter
    assert measured() == (4, 7)
