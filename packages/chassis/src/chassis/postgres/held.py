"""Commits that PostgreSQL holds although nobody waits for them any more: they are counted, and bounded.

A commit that waits for a synchronous standby ends by nothing but the standby's answer: statement_timeout no longer
counts, and the server does not notice that its client is gone. Who gives it up and opens another connection leaves a
backend behind each time, until max_connections is used up for everybody. A CancelRequest and pg_terminate_backend end
the wait by committing without the standby
(https://www.postgresql.org/docs/current/warm-standby.html#SYNCHRONOUS-REPLICATION).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from chassis.postgres.metrics import DatabaseMetrics
from chassis.storage import StoreBusy

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

T = TypeVar("T")

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How long what was seen is taken for what is."""

# The server's own word, so it holds behind a pooler too, which has other process ids than the server's. The names are
# those of a wait for a standby, and for a disk that hangs; the two of a disk are written otherwise since PostgreSQL 17.
LOOK = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND usename = session_user AND state = 'active'
       AND lower(wait_event) IN ('syncrep', 'walsync', 'walwrite')
       AND state_change < clock_timestamp() - make_interval(secs => $1)
"""


class HeldCommits:
    """Those of the role that asks, whichever of its pods they are of.

    bound: how many there may be, with the writes that this process has under way, before it begins no other. seconds:
    after which nobody waits for a commit any more.
    """

    def __init__(self, *, bound: int, seconds: float, metrics: DatabaseMetrics) -> None:
        self._bound = bound
        self._seconds = seconds
        self._gauge = metrics.held_commits
        self._rejected = metrics.rejected_total
        self._held = 0
        self._writing = 0
        self._looks_until = 0.0
        """By the event loop's clock. Looked for as long as there may be any: the usual write costs no look."""
        self._looked_at = 0.0
        self._refuses = False

    def given_up(self) -> None:
        """To be told of each connection that is given up in the middle of something."""
        # A commit that was sent just before is counted once it is as old as the others.
        self._looks_until = asyncio.get_running_loop().time() + self._seconds + LOOK_SECONDS
        self._looked_at = 0.0

    async def look(self, db: Connection) -> None:
        """Counts them."""
        self._looked_at = asyncio.get_running_loop().time()
        self._held = int(await db.fetchval(LOOK, self._seconds))
        self._gauge.set(self._held)

    async def write(self, work: Callable[[Connection], Coroutine[Any, Any, T]], db: Connection) -> T:
        """Does `work`, which commits something. Raises StoreBusy where so many commits are held that it would most
        likely be one more."""
        now = asyncio.get_running_loop().time()
        if (self._held or now < self._looks_until) and now - self._looked_at >= LOOK_SECONDS:
            await self.look(db)
        is_one_too_many = self._held > 0 and self._held + self._writing >= self._bound
        if is_one_too_many and not self._refuses:
            self._refuses = True
            log.warning("Writes are refused: %s", self.sentence())
        elif self._refuses and not self._held:
            self._refuses = False
            log.info("Writes are begun again: PostgreSQL holds no commit any more")
        if is_one_too_many:
            self._rejected.inc()
            raise StoreBusy(self.sentence())
        self._writing += 1
        try:
            return await work(db)
        finally:
            self._writing -= 1

    @property
    def is_at_bound(self) -> bool:
        """Whether no write is begun, whatever else is under way."""
        return self._held >= self._bound

    def sentence(self) -> str:
        """What is so, and what to do."""
        return (
            f"PostgreSQL holds commits that began over {self._seconds:g} s ago, {self._held} of them. Where "
            "pg_stat_activity says that they wait for SyncRep, a synchronous standby is missing: start one, or, if a "
            "failover may lose writes, take it out of synchronous_standby_names. Otherwise its disk does not answer"
        )
