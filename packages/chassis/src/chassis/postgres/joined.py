"""Reads that wait at the same time are joined: one statement asks for the rows of all of them.

A statement that is under way answers nobody who came after it began: what was committed in between would be missing,
and a client would not find what it has just written. So who comes meanwhile waits, and the next statement takes along
all who wait when it is sent. At 16 clients that is a statement for six or seven rows, and 0.7 of the CPU of a GET
(bench/findings.md).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from chassis.postgres.deadlines import Deadlines
from chassis.postgres.errors import reason
from chassis.postgres.wait_limit import WaitLimit
from chassis.storage import StoreUnavailable

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]
    Rows = Mapping[Any, asyncpg.Record]

K = TypeVar("K")
T = TypeVar("T")

LEADERS = 2
"""Statements that may be under way at once, each on a connection. With more there are fewer to join, and other work
would find no connection free; with one alone, nothing is asked while an answer is read."""

MOST_KEYS = 100
"""How many rows a statement asks for at most."""


class Run(Protocol):
    """Database._run, as it is used here."""

    def __call__(
        self, work: Callable[[Connection], Coroutine[Any, Any, T]], *, waited: float, failed: Callable[[], None]
    ) -> Coroutine[Any, Any, T]: ...


class Waiter(NamedTuple):
    """Who waits for the statement of another.

    given: by then the rows of all whom the statement asked for; or None: to ask itself. came: by time.perf_counter.
    """

    given: asyncio.Future[Rows | None]
    key: Any
    came: float


class JoinedReads(Generic[K]):
    """The rows of one kind, by a key.

    The first who asks leads: it asks in its own task, for itself and for all who came until its statement is sent. When
    it is answered it gives the lead to the first of those who came since. So one client alone pays for none of this:
    its statement is that for one row.

    run: Database._run. limit: of those who wait. seconds: for which each may wait. one: the statement for the row of
    the key $1. many: that for the rows of the keys in the array $1, with the key as the first column.
    """

    each_alone: ClassVar[bool] = False
    """Nothing is joined: where statements are traced, each belongs into the trace of its request."""

    def __init__(self, run: Run, limit: WaitLimit, *, seconds: float, one: str, many: str) -> None:
        self._run = run
        self._limit = limit
        self._seconds = seconds
        self._one = one
        self._many = many
        self._leading = 0  # more than LEADERS only where a statement failed
        self._is_handed_over = False  # to somebody whose statement is not sent yet, and will take along all who wait
        self._waiting: deque[Waiter] = deque()
        self._deadlines = Deadlines()
        limit.count(self._waiting)

    async def get(self, key: K) -> asyncpg.Record | None:
        """The row of `key`, or None where there is none. Raises what Database._run raises."""
        if self._leading < LEADERS or self.each_alone:
            self._leading += 1
            return await self._lead(key)
        waiter = self._queue(key)
        try:
            rows = await self._deadlines.keep(asyncio.get_running_loop().time() + self._seconds, waiter.given)
        except (asyncio.CancelledError, TimeoutError) as error:
            began = self._forget(waiter)
            if isinstance(error, asyncio.CancelledError):
                raise
            if not began:
                raise self._limit.too_late() from None
            raise StoreUnavailable(f"PostgreSQL does not answer: {reason(error)}") from error
        if rows is None:
            return await self._lead(key, time.perf_counter() - waiter.came)
        return rows.get(key)

    async def _lead(self, key: K, waited: float = 0) -> asyncpg.Record | None:
        joined: list[Waiter] = []
        try:
            return await self._run(
                partial(self._ask, key, joined), waited=waited, failed=partial(self._give_up, joined, self._waiting)
            )
        except BaseException as error:
            self._is_handed_over = False  # perhaps to this one, which found no connection
            if not isinstance(error, Exception):
                self._give_up(joined)
            for waiter in joined:  # the statement was refused, and would be to each
                if not waiter.given.done():
                    waiter.given.set_exception(error)
            joined.clear()
            raise
        finally:
            self._hand_over()

    async def _ask(self, key: K, joined: list[Waiter], db: Connection) -> asyncpg.Record | None:
        self._is_handed_over = False
        if not self._waiting or self.each_alone:
            return await db.fetchrow(self._one, key)
        now = time.perf_counter()
        while self._waiting and len(joined) < MOST_KEYS - 1:
            waiter = self._waiting.popleft()
            joined.append(waiter)
            self._limit.observe(now - waiter.came)
        # Whoever comes from here on waits for the next statement.
        rows = {row[0]: row for row in await db.fetch(self._many, [key, *(waiter.key for waiter in joined)])}
        for waiter in joined:
            if not waiter.given.done():
                waiter.given.set_result(rows)
        joined.clear()
        return rows.get(key)

    def _queue(self, key: K) -> Waiter:
        self._limit.admit()
        waiter = Waiter(asyncio.get_running_loop().create_future(), key, time.perf_counter())
        self._waiting.append(waiter)
        return waiter

    def _forget(self, waiter: Waiter) -> bool:
        """The caller gave up, perhaps in the very moment in which it was given something. Whether it waited for a
        statement that was under way."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            return False
        if waiter.given.cancelled():
            return True
        if waiter.given.exception() is None and waiter.given.result() is None:
            self._is_handed_over = False
            self._hand_over()
            return False
        return True

    def _hand_over(self) -> None:
        """Who led does so no more: the first who waits does."""
        while self._waiting and self._leading <= LEADERS and not self._is_handed_over:
            if not (given := self._waiting.popleft().given).done():
                given.set_result(None)
                self._is_handed_over = True
                return
        self._leading -= 1

    def _give_up(self, *queues: list[Waiter] | deque[Waiter]) -> None:
        """Nothing came of a statement, or of the connection for one: each who waits for it asks itself, with its own
        tries and in what is left of its own time, as if nothing had been joined."""
        for queue in queues:
            for waiter in queue:
                if not waiter.given.done():
                    self._leading += 1
                    waiter.given.set_result(None)
            queue.clear()
