"""Work of one kind that waits at the same time is joined: one statement, or one transaction, does it for all of them.

A statement that is under way answers nobody who came after it began: what was committed in between would be missing,
and a client would not find what it has just written. So who comes meanwhile waits, and the next statement takes along
all who wait when it is sent. There is one at a time: with two fewer are joined, and at 16 clients a GET took 1.09 times
the CPU, and twice as many statements.
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
from chassis.postgres.errors import OF_ANY_STATEMENT, reason
from chassis.postgres.wait_limit import WaitLimit
from chassis.storage import StoreUnavailable

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_ITEMS = 100
"""How many are joined at most."""


class OneByOne(Exception):
    """One of the items cannot be done now, which undid the others: `together` raises it, or an error of PostgreSQL's
    about what it was asked for, and then each is done alone."""


class Turn(Enum):
    """What ends the wait of one for whom nobody asked: it is for the waiter to do so itself."""

    LEAD = "lead"
    SETTLE = "settle"
    """After a statement of which nobody knows whether it was done."""


class Run(Protocol):
    """Database._run, as it is used here."""

    def __call__(
        self,
        work: Callable[[Connection], Coroutine[Any, Any, T]],
        settle: Callable[[Connection], Coroutine[Any, Any, T]] | None,
        *,
        begin_by_settling: bool,
        waited: float,
        failed: Callable[[], None],
    ) -> Coroutine[Any, Any, T]: ...


@dataclass(eq=False)
class Waiter(Generic[Item, Result]):
    """Who waits for the statement of another. came: by time.perf_counter. ended: the result, or its turn."""

    item: Item
    came: float
    ended: asyncio.Future[Result | Turn]


@dataclass
class Lead(Generic[Item, Result]):
    """Of one who asks. joined: for whom its statement asks, too. is_over: somebody else leads, while it tries again."""

    joined: list[Waiter[Item, Result]]
    is_over: bool = False


class Joined(Generic[Item, Result]):
    """Work of one kind.

    The first who asks leads: it asks in its own task, for itself and for all who came until its statement is sent. When
    it is answered it gives the lead to the first of those who came since. So one client alone pays for none of this.

    run: Database._run. limit: of those who wait. seconds: for which each may wait. alone: does it for one item.
    together: for several, or for none of them. settle: for one of which nobody knows whether it was done, as that of
    Database._run; what only reads has none.
    """

    each_alone: ClassVar[bool] = False
    """Nothing is joined: where statements are traced, each belongs into the trace of its request."""

    def __init__(
        self,
        run: Run,
        limit: WaitLimit,
        *,
        seconds: float,
        alone: Callable[[Connection, Item], Coroutine[Any, Any, Result]],
        together: Callable[[Connection, list[Item]], Coroutine[Any, Any, list[Result]]],
        settle: Callable[[Connection, Item], Coroutine[Any, Any, Result]] | None = None,
    ) -> None:
        self._run = run
        self._limit = limit
        self._seconds = seconds
        self._alone = alone
        self._together = together
        self._settle = settle
        self._leading = 0  # more than one only where a statement failed, or each asks alone
        self._waiting: deque[Waiter[Item, Result]] = deque()
        self._unsettled: deque[Waiter[Item, Result]] = deque()
        self._deadlines = Deadlines()
        limit.count(self._waiting)
        limit.count(self._unsettled)

    async def do(self, item: Item) -> Result:
        """What comes of it. Raises what Database._run raises."""
        if not self._leading or self.each_alone:
            self._leading += 1
            return await self._lead(item)
        self._limit.admit()
        waiter: Waiter[Item, Result] = Waiter(item, time.perf_counter(), asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        try:
            outcome = await self._deadlines.keep(asyncio.get_running_loop().time() + self._seconds, waiter.ended)
        except (asyncio.CancelledError, TimeoutError) as error:
            began = self._forget(waiter)
            if isinstance(error, asyncio.CancelledError):
                raise
            if not began:
                raise self._limit.too_late() from None
            raise StoreUnavailable(f"PostgreSQL does not answer: {reason(error)}") from error
        if not isinstance(outcome, Turn):
            return outcome
        return await self._lead(item, time.perf_counter() - waiter.came, settle=outcome is Turn.SETTLE)

    async def _lead(self, item: Item, waited: float = 0, *, settle: bool = False) -> Result:
        lead: Lead[Item, Result] = Lead([])
        settle_it = self._settle
        try:
            return await self._run(
                partial(self._ask, item, lead),
                None if settle_it is None else lambda db: settle_it(db, item),
                begin_by_settling=settle,
                waited=waited,
                failed=partial(self._fail, lead),
            )
        except BaseException as error:
            if self._settle is None and isinstance(error, Exception):
                for waiter in lead.joined:  # the statement was refused, and would be to each
                    if not waiter.ended.done():
                        waiter.ended.set_exception(error)
                lead.joined.clear()
            self._leave(lead)
            raise
        finally:
            if not lead.is_over:
                self._hand_over()

    async def _ask(self, item: Item, lead: Lead[Item, Result], db: Connection) -> Result:
        joined = lead.joined
        if not self._waiting or lead.is_over or self.each_alone:
            return await self._alone(db, item)
        now = time.perf_counter()
        while self._waiting and len(joined) < MAX_ITEMS - 1:
            waiter = self._waiting.popleft()
            joined.append(waiter)
            self._limit.observe(now - waiter.came)
        # Whoever comes from here on waits for the next statement.
        try:
            mine, *others = await self._together(db, [item, *(waiter.item for waiter in joined)])
        except OF_ANY_STATEMENT:
            raise
        except (asyncpg.PostgresError, OneByOne):
            self._let_each_lead(joined)
            return await self._alone(db, item)
        for waiter, result in zip(joined, others, strict=True):
            if not waiter.ended.done():
                waiter.ended.set_result(result)
        joined.clear()
        return mine

    def _forget(self, waiter: Waiter[Item, Result]) -> bool:
        """The caller gave up, perhaps in the very moment in which it was given something. Whether a statement was sent
        for it."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            return False
        if waiter in self._unsettled:
            self._unsettled.remove(waiter)
            return True
        if waiter.ended.cancelled() or waiter.ended.exception() is not None:
            return True
        if isinstance(waiter.ended.result(), Turn):
            self._hand_over()
        return waiter.ended.result() is not Turn.LEAD

    def _hand_over(self) -> None:
        """Who led does so no more: the first who waits does."""
        while self._leading == 1 and (queue := self._unsettled or self._waiting):
            ended = queue.popleft().ended
            if not ended.done():
                ended.set_result(Turn.SETTLE if queue is self._unsettled else Turn.LEAD)
                return
        self._leading -= 1

    def _fail(self, lead: Lead[Item, Result]) -> None:
        """The statement failed, or there was no connection for one, and who leads tries again: somebody else leads."""
        self._leave(lead)
        if self._settle is None:
            self._let_each_lead(self._waiting)
        elif not lead.is_over:
            lead.is_over = True
            self._hand_over()

    def _leave(self, lead: Lead[Item, Result]) -> None:
        """Nothing came of the statement, or nobody knows what did.

        Who reads tries alone and in what is left of its own time, as if nothing had been joined. Writes are settled one
        after the other: all at once, where a standby is gone, they would take all connections, and PostgreSQL would
        hold a commit for each.
        """
        if self._settle is None:
            self._let_each_lead(lead.joined)
        self._unsettled += lead.joined
        lead.joined.clear()

    def _let_each_lead(self, waiters: list[Waiter[Item, Result]] | deque[Waiter[Item, Result]]) -> None:
        for waiter in waiters:
            if not waiter.ended.done():
                self._leading += 1
                waiter.ended.set_result(Turn.LEAD)
        waiters.clear()
