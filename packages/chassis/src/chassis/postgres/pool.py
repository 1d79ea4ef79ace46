"""A connection pool for PostgreSQL with a bounded size and a bounded wait queue."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from chassis.postgres.deadlines import Deadlines
from chassis.postgres.metrics import DatabaseMetrics
from chassis.postgres.wait_limit import WaitLimit

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]


IDLE_SECONDS = 60.0
"""A connection that was idle for longer is closed instead of reused: firewalls silently drop idle connections
(https://docs.aws.amazon.com/elasticloadbalancing/latest/network/network-load-balancers.html: after 350 s)."""


class Pool:
    """LIFO: the most recently used connection is the likeliest to be alive, and has its statements prepared.

    Not asyncpg's own pool: that one has no limit on waiters, keeps a connection that timed out until the server
    confirms the close, which a half-open one never does, and wraps each use in a proxy and a task.

    connect: opens a connection. max_size: the maximum number of connections. wait_limit: the limit on waiters. metrics:
    those of the database, which has this one pool.
    """

    def __init__(
        self,
        connect: Callable[[], Coroutine[Any, Any, Connection]],
        *,
        max_size: int,
        wait_limit: WaitLimit,
        metrics: DatabaseMetrics,
    ) -> None:
        self._connect = connect
        self._max_size = max_size
        self._wait_limit = wait_limit
        self._idle: list[tuple[Connection, float]] = []  # with the time of the last use; most recent last
        self._open = 0  # in use, idle, or being opened
        self._closed = False
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        # An asyncio timeout per waiter took 14 of the 130 µs of CPU of a GET, with 16 concurrent requests.
        self._deadlines = Deadlines()
        wait_limit.add_queue(self._waiters)
        metrics.pool_max.set(max_size)
        metrics.pool_open.set_function(lambda: self._open)
        metrics.pool_idle.set_function(lambda: len(self._idle))

    async def acquire(self, *, deadline: float, waited: float = 0) -> Connection:
        """A connection for exclusive use, to be returned with `release` or `discard`.

        deadline: when to give up, by the event loop's clock, while all connections are in use or a new one is being
        opened. waited: how many seconds the caller has already waited in another queue; such a caller is queued even
        where the queue is full. Raises StoreBusy if no connection becomes free in time or the queue is full,
        TimeoutError if opening one takes longer, and what `connect` raises.
        """
        start = time.perf_counter()
        while self._idle:
            connection, last_use = self._idle.pop()
            if not connection.is_closed() and start - last_use < IDLE_SECONDS:
                self._wait_limit.observe(waited)
                return connection
            connection.terminate()
            self._open -= 1
        if self._open < self._max_size:
            self._open += 1
            connection = await self._connect_in_slot(deadline)
        else:
            if not waited:
                self._wait_limit.admit()
            connection = await self._wait_for_connection(deadline) or await self._connect_in_slot(deadline)
        self._wait_limit.observe(waited + time.perf_counter() - start)
        return connection

    def release(self, connection: Connection) -> None:
        """Returns a reusable connection to the pool."""
        if connection.is_closed():
            self._release_slot()
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if self._closed:
            self.discard(connection)
        else:
            self._idle.append((connection, time.perf_counter()))

    def discard(self, connection: Connection) -> None:
        """Closes a connection that may be broken or in the middle of a statement. It is terminated without PostgreSQL's
        Terminate message: a dead server would never confirm the close."""
        connection.terminate()
        self._release_slot()

    def discard_idle(self) -> None:
        """Terminates all idle connections: what broke one connection has most likely broken them all."""
        while self._idle:
            connection, _ = self._idle.pop()
            connection.terminate()
            self._open -= 1

    async def close(self) -> None:
        """Closes the idle connections gracefully. Those in use are terminated when they are released."""
        self._closed = True
        idle, self._idle = self._idle, []
        self._open -= len(idle)
        await asyncio.gather(*(connection.close() for connection, _ in idle))

    async def _connect_in_slot(self, deadline: float) -> Connection:
        """A new connection in a reserved slot, which is released if connecting fails."""
        try:
            return await self._deadlines.enforce(deadline, self._connect())
        except BaseException:
            self._release_slot()
            raise

    async def _wait_for_connection(self, deadline: float) -> Connection | None:
        """The next connection that is released, or None for the slot of one that was discarded."""
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await self._deadlines.enforce(deadline, waiter)
        except asyncio.CancelledError:
            self._abandon(waiter)
            raise
        except TimeoutError:
            self._abandon(waiter)
            raise self._wait_limit.timed_out(f"none of {self._max_size} connections became free in time") from None

    def _abandon(self, waiter: asyncio.Future[Connection | None]) -> None:
        """The waiter was cancelled or timed out, possibly just as it was assigned a connection or a slot."""
        if not waiter.done() or waiter.cancelled():
            with contextlib.suppress(ValueError):  # `release` may have skipped and removed it already
                self._waiters.remove(waiter)
        elif (connection := waiter.result()) is None:
            self._release_slot()
        else:
            self.release(connection)

    def _release_slot(self) -> None:
        """A connection is gone: the next waiter may open one in its slot."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._open -= 1
