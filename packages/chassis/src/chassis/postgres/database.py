"""A PostgreSQL, as every store on one needs it: opened, asked, asked again, closed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from chassis.postgres import checks
from chassis.postgres.connection import Refused, connect, goodbye
from chassis.postgres.deadlines import Deadlines
from chassis.postgres.errors import (
    BROKEN_CONNECTION,
    NOT_RETRIED,
    ROLLED_BACK,
    STATEMENT_LOST,
    UNREACHABLE,
    next_step,
    reason,
    sqlstate,
)
from chassis.postgres.held import HeldCommits
from chassis.postgres.joined import Joined
from chassis.postgres.metrics import DatabaseMetrics
from chassis.postgres.pool import Pool
from chassis.postgres.pooler import prove_session, prove_statements, refuse_session, statement_lost
from chassis.postgres.schema import migrate
from chassis.postgres.url import Pooler, parse
from chassis.postgres.wait_limit import WaitLimit
from chassis.storage import StoreBusy, StoreUnavailable

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

Item = TypeVar("Item")
T = TypeVar("T")

log = logging.getLogger(__name__)

CLOSE_SECONDS = 1.0

FIRST_PAUSE_SECONDS = 0.02

TRY_AGAIN_SECONDS = 1.0
SAID_AGAIN_SECONDS = 60.0
"""How often `open` asks for a server that does not answer, and how often the log says so."""


@dataclass(frozen=True)
class Limits:
    """What may be asked of PostgreSQL, and how long it may take.

    pool_size: connections. queue_size: callers that may wait for one. seconds: all that one call of a store's method
    may take, with waiting and trying again. statement_seconds, lock_seconds: PostgreSQL's statement_timeout and
    lock_timeout. pooler: what is between. prepared_statements: whether the server keeps them for the next request.
    """

    pool_size: int = 5
    queue_size: int = 100
    seconds: float = 5
    statement_seconds: float = 2
    lock_seconds: float = 1
    pooler: Pooler = "none"
    prepared_statements: bool = True

    @property
    def session(self) -> dict[str, str]:
        """Settings of each connection's session, in PostgreSQL's own unit, milliseconds."""
        return {
            "statement_timeout": f"{self.statement_seconds * 1000:.0f}",
            "lock_timeout": f"{self.lock_seconds * 1000:.0f}",
            "idle_in_transaction_session_timeout": f"{self.seconds * 1000:.0f}",
        }

    @property
    def attempt_seconds(self) -> float:
        """How long to wait for the server. asyncpg sets no TCP keepalive: without this a half-open connection blocks
        its caller for ever (https://github.com/MagicStack/asyncpg/issues/421 and its like)."""
        return min(self.seconds, self.statement_seconds + 0.5)  # the server's own timeout comes first


@dataclass(frozen=True)
class Use:
    """What a service is to its database.

    name: what pg_stat_activity shows. setting: the variable that the URL comes from, for who has to mend it.
    migrations: the folder of its schema. lock: the number under which its pods take turns to apply them: any that
    nothing else in the database locks.
    """

    name: str
    setting: str
    migrations: Path
    lock: int
    metrics: DatabaseMetrics


class _TakesNoWrites(StoreUnavailable):
    """Now; that may pass."""


class Database:
    """A store on PostgreSQL is a subclass, and asks it by `_run`."""

    kind = "postgresql"
    """What Service.storage says."""

    def __init__(self, url: str, use: Use, *, limits: Limits, wait_seconds: float) -> None:
        """wait_seconds: how long `open` waits for a server that does not answer yet. Raises ValueError for a URL that
        cannot be used."""
        self._address = parse(url)
        self._use = use
        self._limits = limits
        self._wait_seconds = wait_seconds
        self._pool: Pool | None = None
        self._deadlines = Deadlines()
        self._wait_limit = WaitLimit(limits.queue_size, limits.pool_size, use.metrics)
        self._held = HeldCommits(bound=limits.pool_size, seconds=limits.attempt_seconds, metrics=use.metrics)

    async def open(self) -> None:
        """Connects, brings the schema up to date, and proves that what was found there can be worked with. Raises
        StoreUnavailable."""
        address, use, limits = self._address, self._use, self._limits
        if address.ignored:
            log.info("Of the URL in %s is ignored what asyncpg lacks: %s", use.setting, ", ".join(address.ignored))
        deadline = time.monotonic() + self._wait_seconds
        said, say_again = "", 0.0
        while True:
            try:
                refuse_session(address, use.setting, limits.pooler)
                await self._prove_server()
                await self._migrate()
                await self._prove_rights()
                self._pool = Pool(
                    self._connect,
                    size=limits.pool_size,
                    limit=self._wait_limit,
                    metrics=use.metrics,
                )
                return
            except UNREACHABLE as error:
                if time.monotonic() >= deadline:
                    raise StoreUnavailable(
                        f"PostgreSQL at {address.where} cannot be reached: {reason(error)}. "
                        f"{next_step(error, use.setting)}"
                    ) from error
                waits = (
                    f"PostgreSQL at {address.where} does not answer yet ({reason(error)}): trying again each second. "
                    f"{next_step(error, use.setting)}"
                )
            except _TakesNoWrites as error:  # as while a failover goes on
                if time.monotonic() >= deadline:
                    raise
                waits = f"{error}: trying again each second"
            except Refused as error:
                raise StoreUnavailable(f"PostgreSQL at {address.where} refused: {error}") from error
            except STATEMENT_LOST as error:
                refused = statement_lost(error, use.setting)
                raise StoreUnavailable(f"PostgreSQL at {address.where} refused: {refused}") from error
            except (asyncpg.PostgresError, *BROKEN_CONNECTION) as error:
                raise StoreUnavailable(
                    f"PostgreSQL at {address.where} refused: {reason(error)}. Mend it there or in {use.setting}."
                ) from error
            if waits != said or time.monotonic() >= say_again:  # in a cluster it may wait for days
                log.warning("%s", waits)
                said, say_again = waits, time.monotonic() + SAID_AGAIN_SECONDS
            await asyncio.sleep(TRY_AGAIN_SECONDS)

    async def close(self) -> None:
        """Says goodbye, in at most CLOSE_SECONDS. Safe to call on one that was never opened."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            try:
                await asyncio.wait_for(pool.close(), CLOSE_SECONDS)
            except (*UNREACHABLE, *BROKEN_CONNECTION) as error:
                log.info("PostgreSQL did not take leave: %s", reason(error))

    async def ping(self) -> None:
        """Asks for an answer. Raises StoreUnavailable where a promise cannot be kept, too."""

        async def look(db: Connection) -> list[checks.Finding]:
            await self._held.look(db)
            return await checks.findings(db, self._limits, setting=self._use.setting)

        wrong = [f"PostgreSQL: {each.sentence}" for each in await self._run(look) if each.decision != "warn"]
        if self._held.is_at_bound:
            wrong.append(f"Writes are refused: {self._held.sentence()}")
        if wrong:
            raise StoreUnavailable(". ".join(wrong))

    async def _run(
        self,
        work: Callable[[Connection], Coroutine[Any, Any, T]],
        settle: Callable[[Connection], Coroutine[Any, Any, T]] | None = None,
        *,
        seconds: float | None = None,
        begin_by_settling: bool = False,
        waited: float = 0,
        failed: Callable[[], None] | None = None,
    ) -> T:
        """Does `work` on one connection; again, where it failed and may succeed in the time there is.

        settle: takes the place of `work` once a connection was lost and nobody knows whether `work` was done. What it
        finds done is durable when this returns. All work whose writes are acknowledged to somebody has one.
        begin_by_settling: whether nobody knows it of an attempt before this call. seconds: how long an attempt may
        take, where that is not the usual. waited: how much of its time the caller spent before, waiting. failed: is
        called where an attempt failed that may be made again.
        """
        pool = self._pool
        if pool is None:
            raise StoreUnavailable("PostgreSQL: the storage is not open")
        now = asyncio.get_running_loop().time
        deadline = now() + (seconds or self._limits.seconds) - waited
        pause = FIRST_PAUSE_SECONDS
        settling = False
        if settle is not None:
            settling = begin_by_settling
            work = partial(_settled, settle) if settling else partial(self._held.write, work)
        while True:
            try:
                connection = await pool.acquire(deadline=deadline, waited=waited)
                until = min(deadline, now() + (seconds or self._limits.attempt_seconds))
                try:
                    done = await self._deadlines.keep(until, work(connection))
                except (asyncio.CancelledError, *UNREACHABLE, *BROKEN_CONNECTION):
                    # It is broken, or still waits for an answer that nobody wants any more.
                    self._held.given_up()
                    pool.discard(connection)
                    raise
                except BaseException:
                    pool.release(connection)
                    raise
                pool.release(connection)
                return done
            except (*ROLLED_BACK, *UNREACHABLE, *BROKEN_CONNECTION) as error:
                if failed is not None:
                    failed()
                if not isinstance(error, ROLLED_BACK):
                    pool.discard_idle()
                    if settle is not None:
                        settling, work = True, partial(_settled, settle)
                wait = pause * SystemRandom().uniform(0.5, 1.5)  # so that not all come back at once
                if now() + wait > deadline:
                    raise StoreUnavailable(f"PostgreSQL does not answer: {reason(error)}") from error
                self._use.metrics.retries_total.labels(sqlstate(error)).inc()
                await asyncio.sleep(wait)
                pause *= 2
                waited = 0  # before the first attempt
            except NOT_RETRIED as error:
                raise StoreUnavailable(f"PostgreSQL refused: {reason(error)}") from error
            except STATEMENT_LOST as error:
                refused = statement_lost(error, self._use.setting)
                raise StoreUnavailable(f"PostgreSQL refused: {refused}") from error
            except StoreBusy as error:
                if not settling:
                    raise
                # StoreBusy would say that nothing was changed. An earlier attempt may have changed it all.
                raise StoreUnavailable(f"PostgreSQL does not answer in time: {error}") from error

    async def _run_idempotent(self, work: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        """As `_run`, for what writes and does no harm when it is done twice."""
        return await self._run(work, work)

    def _join_reads(self, *, one: str, many: str) -> Joined[Any, asyncpg.Record | None]:
        """Rows by a key, asked for together where they are asked for at the same time (chassis.postgres.joined).

        one: the statement for the row of the key $1. many: that for the rows of the keys in the array $1, with the key
        as its first column; best by a subquery for each, LATERAL with LIMIT 1: a plan of `= ANY` that was made while
        the table was small reads all of it, and is kept while it grows.
        """

        async def alone(db: Connection, key: Any) -> asyncpg.Record | None:
            return await db.fetchrow(one, key)

        async def together(db: Connection, keys: list[Any]) -> list[asyncpg.Record | None]:
            rows = {row[0]: row for row in await db.fetch(many, keys)}
            return [rows.get(key) for key in keys]

        return Joined(self._run, self._wait_limit, seconds=self._limits.seconds, alone=alone, together=together)

    def _join_writes(
        self,
        *,
        alone: Callable[[Connection, Item], Coroutine[Any, Any, T]],
        together: Callable[[Connection, list[Item]], Coroutine[Any, Any, list[T]]],
        settle: Callable[[Connection, Item], Coroutine[Any, Any, T]],
    ) -> Joined[Item, T]:
        """Writes that do not depend on each other, committed together where they come at the same time.

        together: all of them or none, in one transaction. settle: as that of `_run`.
        """
        return Joined(
            self._run,
            self._wait_limit,
            seconds=self._limits.seconds,
            alone=alone,
            together=together,
            settle=settle,
        )

    async def _prove_server(self) -> None:
        """Raises StoreUnavailable where the server, the database or the role is none to begin with, and Refused where
        what is between does not let through what the pool needs."""
        limits, setting = self._limits, self._use.setting
        async with self._probe() as db:
            await prove_session(db, limits.session, setting=setting, pooler=limits.pooler)
            if limits.pooler != "none" and limits.prepared_statements:
                await prove_statements(db, self._open_connection, setting=setting, pooler=limits.pooler)
            found = await checks.findings(db, limits, setting=setting)
        for each in found:
            sentence = f"PostgreSQL at {self._address.where}: {each.sentence}"
            if each.decision == "wait":
                raise _TakesNoWrites(sentence)
            if each.decision == "refuse":
                raise StoreUnavailable(sentence)
        for each in found:
            log.warning("PostgreSQL at %s: %s", self._address.where, each.sentence)

    async def _migrate(self) -> None:
        use = self._use
        try:
            await migrate(self._address, use.migrations, lock=use.lock, setting=use.setting, pooler=self._limits.pooler)
        except asyncpg.InsufficientPrivilegeError as error:
            await self._prove_rights()
            raise StoreUnavailable(
                f"PostgreSQL at {self._address.where}: {reason(error)}, which migrations need. GRANT USAGE, CREATE ON "
                f"SCHEMA ... TO the role in {use.setting}, which then owns what they make; or apply them by the "
                "command `migrate` with the URL of a role that may"
            ) from error

    async def _prove_rights(self) -> None:
        """Raises StoreUnavailable where requests would be refused."""
        async with self._probe() as db:
            missing = await checks.missing_rights(db)
        if missing:
            raise StoreUnavailable(f"PostgreSQL at {self._address.where}: {missing}")

    @contextlib.asynccontextmanager
    async def _probe(self) -> AsyncIterator[Connection]:
        """A connection like those of the pool, before there is one."""
        async with goodbye(await self._open_connection(), CLOSE_SECONDS) as db:
            async with asyncio.timeout(self._limits.attempt_seconds):
                yield db

    async def _connect(self) -> Connection:
        try:
            return await self._open_connection()
        except Refused as error:
            raise StoreUnavailable(f"PostgreSQL refused: {error}") from error

    async def _open_connection(self) -> Connection:
        return await connect(
            self._address,
            setting=self._use.setting,
            seconds=self._limits.attempt_seconds,
            session={"application_name": self._use.name, **self._limits.session},
            pooler=self._limits.pooler,
            prepared_statements=self._limits.prepared_statements,
        )


@contextlib.asynccontextmanager
async def transaction(db: Connection) -> AsyncIterator[None]:
    """As asyncpg's own, but who is cancelled does not undo it: the connection may be dead, and a ROLLBACK on it would
    wait for ever. `_run` cuts it, and that undoes it as well."""
    transaction = db.transaction()
    await transaction.start()
    try:
        yield
    except Exception:
        await transaction.rollback()
        raise
    await transaction.commit()


async def _settled(settle: Callable[[Connection], Coroutine[Any, Any, T]], db: Connection) -> T:
    done = await settle(db)
    await make_durable(db)
    return done


async def make_durable(db: Connection) -> None:
    """Returns once all that this connection can see is on a synchronous standby, too, where the server has one.

    A commit that waits for a standby can be seen by others, if the server restarts or the waiting session is ended,
    before a standby has it: what is found done is not acknowledged before this. A transaction of its own
    that writes WAL waits for all WAL before it; one that only reads waits for nothing
    (https://www.postgresql.org/docs/current/warm-standby.html#SYNCHRONOUS-REPLICATION).
    """
    await db.execute("SELECT pg_logical_emit_message(true, 'chassis', '')")
