"""Commits that are still pending in PostgreSQL after their client gave up: counted, and limited.

A commit that waits for a synchronous standby ends only when the standby responds: statement_timeout no longer applies,
and the server does not notice that its client is gone. A client that gives up and opens another connection leaves a
backend behind each time, until max_connections is exhausted for all clients. A CancelRequest and pg_terminate_backend
end the wait by committing without the standby
(https://www.postgresql.org/docs/current/warm-standby.html#SYNCHRONOUS-REPLICATION).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from chassis.postgres.metrics import DatabaseMetrics
from chassis.storage import StoreBusy

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

T = TypeVar("T")

log = logging.getLogger(__name__)

REFRESH_SECONDS = 1.0
"""How long a count is reused."""

# Counted by the server, so it also works behind a pooler, which reports process ids different from the server's. The
# wait events are those of a wait for a standby, and for a disk that hangs; the latter two are spelled differently since
# PostgreSQL 17.
COUNT = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND usename = session_user AND state = 'active'
       AND lower(wait_event) IN ('syncrep', 'walsync', 'walwrite')
       AND state_change < clock_timestamp() - make_interval(secs => $1)
"""


class StuckCommits:
    """The stuck commits of the connection's role, from whichever pod.

    limit: the maximum of stuck commits plus writes in flight in this process; further writes are rejected. seconds: the
    age from which a commit counts as stuck: its client has given up by then.
    """

    def __init__(self, *, limit: int, seconds: float, metrics: DatabaseMetrics) -> None:
        self._limit = limit
        self._seconds = seconds
        self._gauge = metrics.held_commits
        self._rejected = metrics.rejected_total
        self._count = 0
        self._writes_in_flight = 0
        self._refresh_until = -math.inf
        """By the event loop's clock. Counted only while there may be any: usually, a write costs no count."""
        self._refreshed_at: float  # set before it is read
        self._rejecting = False

    def connection_abandoned(self) -> None:
        """To be called for each connection that is closed in the middle of an operation."""
        # A commit that was sent just before counts once it is as old as the others.
        self._refresh_until = asyncio.get_running_loop().time() + self._seconds + REFRESH_SECONDS
        self._refreshed_at = -math.inf

    async def refresh(self, db: Connection) -> None:
        """Counts them."""
        self._refreshed_at = asyncio.get_running_loop().time()
        self._count = int(await db.fetchval(COUNT, self._seconds))
        self._gauge.set(self._count)

    async def write(self, work: Callable[[Connection], Coroutine[Any, Any, T]], db: Connection) -> T:
        """Runs `work`, which commits. Raises StoreBusy while there are so many stuck commits that this would most
        likely become another."""
        now = asyncio.get_running_loop().time()
        if (self._count or now < self._refresh_until) and now - self._refreshed_at >= REFRESH_SECONDS:
            await self.refresh(db)
        over_limit = self._count > 0 and self._count + self._writes_in_flight >= self._limit
        if over_limit and not self._rejecting:
            self._rejecting = True
            log.warning("Rejecting writes: %s", self.message())
        elif self._rejecting and not self._count:
            self._rejecting = False
            log.info("Accepting writes again: PostgreSQL has no stuck commits")
        if over_limit:
            self._rejected.inc()
            raise StoreBusy(self.message())
        self._writes_in_flight += 1
        try:
            return await work(db)
        finally:
            self._writes_in_flight -= 1

    @property
    def limit_reached(self) -> bool:
        """Whether all writes are rejected, even with none in flight."""
        return self._count >= self._limit

    def message(self) -> str:
        """The problem, and the next step."""
        return (
            f"commits stuck in PostgreSQL for over {self._seconds:g} s: {self._count}. If their wait_event in "
            "pg_stat_activity is SyncRep, a synchronous standby is missing: start one or, if a failover may lose "
            "writes, remove it from synchronous_standby_names. Otherwise the server's disk is not responding"
        )
