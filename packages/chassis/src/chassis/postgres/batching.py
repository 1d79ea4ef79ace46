"""Batching: operations of one kind that wait at the same time share one statement, or one transaction.

A running statement must not serve an operation that arrived after it started: it would miss what was committed in
between, and a client would not read its own writes. So later operations wait, and the next statement takes all that are
waiting when it is sent. Only one is in flight: with two the batches are smaller, and at 16 clients a GET took 1.09
times the CPU, and twice as many statements.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import asyncpg

from chassis.postgres.deadlines import Deadlines
from chassis.postgres.errors import NOT_CAUSED_BY_STATEMENT, reason
from chassis.postgres.wait_limit import WaitLimit
from chassis.storage import StoreUnavailable

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_BATCH_SIZE = 100


class SplitBatch(Exception):
    """Raised by `execute_many` where one item cannot be executed now, which rolled back the others. The items are then
    executed separately, as they are after a PostgreSQL error that the statement caused."""


class Handoff(Enum):
    """Wakes a waiter without a result: it has to execute its item itself."""

    LEAD = "lead"
    SETTLE = "settle"
    """After a statement whose outcome is unknown."""


class Run(Protocol):
    """Database._run, as it is used here."""

    def __call__(
        self,
        work: Callable[[Connection], Coroutine[Any, Any, T]],
        settle: Callable[[Connection], Coroutine[Any, Any, T]] | None,
        *,
        settle_first: bool,
        waited: float,
        on_failed_attempt: Callable[[], None],
    ) -> Coroutine[Any, Any, T]: ...


@dataclass(eq=False)
class Waiter(Generic[Item, Result]):
    """An operation that waits for the next batch or, once its statement was sent, for its result.

    queued_at: by time.perf_counter. future: gets the result, or a handoff.
    """

    item: Item
    queued_at: float
    future: asyncio.Future[Result | Handoff]


@dataclass
class Batch(Generic[Item, Result]):
    """What a leader executes with its own item. followers: the waiters whose items are in its statement. handed_over:
    another waiter leads while this leader retries."""

    followers: list[Waiter[Item, Result]]
    handed_over: bool = False


class Batcher(Generic[Item, Result]):
    """Batches operations of one kind, by leader and followers as in a group commit.

    The first operation leads: in its own task it executes its item, and those of all that arrive until its statement is
    sent. Then it hands the lead to the first that arrived since. So a single client pays for none of this.

    run: Database._run. wait_limit: the limit on waiters. seconds: how long each may wait. execute_one: for a single
    item. execute_many: for several, all or nothing. settle: for an item whose outcome is unknown, as that of
    Database._run; None for what only reads.
    """

    disabled: ClassVar[bool] = False
    """Each item is executed separately: where statements are traced, each belongs in the trace of its request."""

    def __init__(
        self,
        run: Run,
        wait_limit: WaitLimit,
        *,
        seconds: float,
        execute_one: Callable[[Connection, Item], Coroutine[Any, Any, Result]],
        execute_many: Callable[[Connection, list[Item]], Coroutine[Any, Any, list[Result]]],
        settle: Callable[[Connection, Item], Coroutine[Any, Any, Result]] | None = None,
    ) -> None:
        self._run = run
        self._wait_limit = wait_limit
        self._seconds = seconds
        self._execute_one = execute_one
        self._execute_many = execute_many
        self._settle = settle
        self._leaders = 0  # more than one only after a failed statement, or where batching is disabled
        self._waiters: deque[Waiter[Item, Result]] = deque()
        self._in_doubt: deque[Waiter[Item, Result]] = deque()
        self._deadlines = Deadlines()
        wait_limit.add_queue(self._waiters)
        wait_limit.add_queue(self._in_doubt)

    async def submit(self, item: Item) -> Result:
        """The result for `item`. Raises what Database._run raises."""
        if not self._leaders or self.disabled:
            self._leaders += 1
            return await self._lead(item)
        self._wait_limit.admit()
        waiter: Waiter[Item, Result] = Waiter(item, time.perf_counter(), asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            outcome = await self._deadlines.enforce(asyncio.get_running_loop().time() + self._seconds, waiter.future)
        except (asyncio.CancelledError, TimeoutError) as error:
            was_sent = self._abandon(waiter)
            if isinstance(error, asyncio.CancelledError):
                raise
            if not was_sent:
                raise self._wait_limit.timed_out("its batch could not be sent in time") from None
            raise StoreUnavailable(f"PostgreSQL is not responding: {reason(error)}") from error
        if not isinstance(outcome, Handoff):
            return outcome
        return await self._lead(item, time.perf_counter() - waiter.queued_at, settle=outcome is Handoff.SETTLE)

    async def _lead(self, item: Item, waited: float = 0, *, settle: bool = False) -> Result:
        """Executes `item` and what waits when its statement is sent; then passes on the lead.

        waited: how long it has waited already. settle: whether the outcome of an earlier statement is unknown.
        """
        batch: Batch[Item, Result] = Batch([])
        settle_item = self._settle
        try:
            return await self._run(
                partial(self._execute, item, batch),
                None if settle_item is None else lambda db: settle_item(db, item),
                settle_first=settle,
                waited=waited,
                on_failed_attempt=partial(self._on_failed_attempt, batch),
            )
        except BaseException as error:
            if self._settle is None and isinstance(error, Exception):
                for waiter in batch.followers:  # the statement would fail for each of them
                    if not waiter.future.done():
                        waiter.future.set_exception(error)
            self._release_followers(batch)
            raise
        finally:
            if not batch.handed_over:
                self._hand_over()

    async def _execute(self, item: Item, batch: Batch[Item, Result], db: Connection) -> Result:
        """An attempt of a leader: returns the result of its own item, and gives the followers theirs."""
        followers = batch.followers
        if not self._waiters or batch.handed_over:
            return await self._execute_one(db, item)
        now = time.perf_counter()
        while self._waiters and len(followers) < MAX_BATCH_SIZE - 1:
            waiter = self._waiters.popleft()
            followers.append(waiter)
            self._wait_limit.observe(now - waiter.queued_at)
        # Operations that arrive from here on wait for the next statement.
        try:
            own, *others = await self._execute_many(db, [item, *(waiter.item for waiter in followers)])
        except NOT_CAUSED_BY_STATEMENT:
            raise
        except (asyncpg.PostgresError, SplitBatch):
            self._promote_all(followers)
            return await self._execute_one(db, item)
        for waiter, result in zip(followers, others, strict=True):
            if not waiter.future.done():
                waiter.future.set_result(result)
        return own

    def _abandon(self, waiter: Waiter[Item, Result]) -> bool:
        """The waiter was cancelled or timed out, possibly just as it got a result or a handoff. Returns whether a
        statement was sent for it."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            return False
        if waiter in self._in_doubt:
            self._in_doubt.remove(waiter)
        if waiter.future.cancelled() or waiter.future.exception() is not None:
            return True
        if isinstance(waiter.future.result(), Handoff):
            self._hand_over()
        return waiter.future.result() is not Handoff.LEAD

    def _hand_over(self) -> None:
        """Passes on the lead to the first waiter in doubt, or else to the first waiter, unless others lead, too."""
        while self._leaders == 1 and (queue := self._in_doubt or self._waiters):
            future = queue.popleft().future
            if not future.done():
                future.set_result(Handoff.SETTLE if queue is self._in_doubt else Handoff.LEAD)
                return
        self._leaders -= 1

    def _on_failed_attempt(self, batch: Batch[Item, Result]) -> None:
        """The statement failed, or there was no connection for it. The leader retries, and hands over the lead."""
        self._release_followers(batch)
        if self._settle is None:
            self._promote_all(self._waiters)
        elif not batch.handed_over:
            batch.handed_over = True
            self._hand_over()

    def _release_followers(self, batch: Batch[Item, Result]) -> None:
        """Takes the followers out of the batch, after their statement failed or was abandoned.

        Reads are executed separately, each within its own deadline, as if they had never been batched. Writes, whose
        outcome is unknown, are settled one after the other: all at once, with a standby down, they would take all
        connections, and leave a pending commit in PostgreSQL for each.
        """
        if self._settle is None:
            self._promote_all(batch.followers)
        self._in_doubt += batch.followers
        batch.followers.clear()

    def _promote_all(self, waiters: list[Waiter[Item, Result]] | deque[Waiter[Item, Result]]) -> None:
        """Makes each of them a leader."""
        for waiter in waiters:
            if not waiter.future.done():
                self._leaders += 1
                waiter.future.set_result(Handoff.LEAD)
        waiters.clear()
