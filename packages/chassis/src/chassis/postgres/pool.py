"""Connections to PostgreSQL, shared: a bounded number of them, and of those who wait for one."""

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
"""A connection that nobody used for so long is not trusted any more: firewalls forget idle connections without a word
(https://docs.aws.amazon.com/elasticloadbalancing/latest/network/network-load-balancers.html: after 350 s)."""


class Pool:
    """Hands out the connection that was used last: it is the likeliest to be alive, and has its statements prepared.

    Not asyncpg's own pool: that one lets any number wait, keeps a connection that timed out until the server says
    goodbye, which a half-open one never does, and wraps each use in a proxy and a task.

    connect: opens a connection. size: how many there may be. limit: of those who wait. metrics: those of the database,
    whose one pool this is.
    """

    def __init__(
        self,
        connect: Callable[[], Coroutine[Any, Any, Connection]],
        *,
        size: int,
        limit: WaitLimit,
        metrics: DatabaseMetrics,
    ) -> None:
        self._connect = connect
        self._size = size
        self._limit = limit
        self._idle: list[tuple[Connection, float]] = []  # with the time of its last use; the newest at the end
        self._open = 0  # in use, idle, or being opened
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        # A timeout of asyncio's for each who waits took 14 of the 130 µs of CPU of a GET, with 16 requests at once.
        self._deadlines = Deadlines()
        limit.count(self._waiting)
        metrics.pool_max.set(size)
        metrics.pool_open.set_function(lambda: self._open)
        metrics.pool_idle.set_function(lambda: len(self._idle))

    async def acquire(self, *, deadline: float, waited: float = 0) -> Connection:
        """A connection for the caller alone, to be given back by `release` or `discard`.

        deadline: by the event loop's clock, until when to wait while all are in use and for a new one. waited: for how
        many seconds the caller waited elsewhere before it came here: it goes on waiting, however many do. Raises
        StoreBusy where none came by then or too many wait already, TimeoutError where a new one takes longer, and what
        `connect` raises.
        """
        start = time.perf_counter()
        while self._idle:
            connection, last_use = self._idle.pop()
            if not connection.is_closed() and start - last_use < IDLE_SECONDS:
                self._limit.observe(waited)
                return connection
            connection.terminate()
            self._open -= 1
        if self._open < self._size:
            self._open += 1
            connection = await self._opened(deadline)
        else:
            if not waited:
                self._limit.admit()
            connection = await self._given(deadline) or await self._opened(deadline)
        self._limit.observe(waited + time.perf_counter() - start)
        return connection

    def release(self, connection: Connection) -> None:
        """Takes back a connection that can be used again."""
        if connection.is_closed():
            self._give_place()
            return
        while self._waiting:
            caller = self._waiting.popleft()
            if not caller.done():
                caller.set_result(connection)
                return
        self._idle.append((connection, time.perf_counter()))

    def discard(self, connection: Connection) -> None:
        """Takes back a connection that may be broken or in the middle of a statement. It is cut without a goodbye: a
        dead server would never answer that."""
        connection.terminate()
        self._give_place()

    def discard_idle(self) -> None:
        """Cuts all that nobody uses: what broke one connection has most likely broken them all."""
        while self._idle:
            connection, _ = self._idle.pop()
            connection.terminate()
            self._open -= 1

    async def close(self) -> None:
        """Says goodbye on the idle connections. Those in use are cut by their users."""
        idle, self._idle = self._idle, []
        self._open -= len(idle)
        await asyncio.gather(*(connection.close() for connection, _ in idle))

    async def _opened(self, deadline: float) -> Connection:
        """A new connection in a place that is taken already."""
        try:
            return await self._deadlines.keep(deadline, self._connect())
        except BaseException:
            self._give_place()
            raise

    async def _given(self, deadline: float) -> Connection | None:
        """What the next caller gives back: its connection, or None for the place of one that is gone."""
        given: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(given)
        try:
            return await self._deadlines.keep(deadline, given)
        except asyncio.CancelledError:
            self._forget(given)
            raise
        except TimeoutError:
            self._forget(given)
            raise self._limit.too_late() from None

    def _forget(self, given: asyncio.Future[Connection | None]) -> None:
        """The caller gave up, perhaps in the very moment in which it was given something."""
        if not given.done() or given.cancelled():
            with contextlib.suppress(ValueError):  # the one who gives may have passed it over already
                self._waiting.remove(given)
        elif (connection := given.result()) is None:
            self._give_place()
        else:
            self.release(connection)

    def _give_place(self) -> None:
        """A connection is gone: who waits may open one in its place."""
        while self._waiting:
            caller = self._waiting.popleft()
            if not caller.done():
                caller.set_result(None)
                return
        self._open -= 1
