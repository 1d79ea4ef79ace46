"""A PostgreSQL database for a store: connecting, running work, retrying it, closing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from chassis.postgres import checks
from chassis.postgres.batching import Batcher
from chassis.postgres.connection import PermanentConnectionError, closing, connect
from chassis.postgres.deadlines import Deadlines
from chassis.postgres.errors import (
    BROKEN_CONNECTION,
    NOT_RETRYABLE,
    PREPARED_STATEMENT_LOST,
    RETRYABLE,
    UNREACHABLE,
    next_step,
    reason,
    sqlstate,
)
from chassis.postgres.metrics import DatabaseMetrics
from chassis.postgres.pool import Pool
from chassis.postgres.pooler import (
    prepared_statement_hint,
    reject_session_parameters,
    verify_prepared_statements,
    verify_session,
)
from chassis.postgres.schema import migrate
from chassis.postgres.stuck_commits import StuckCommits
from chassis.postgres.url import Pooler, parse
from chassis.postgres.wait_limit import WaitLimit
from chassis.storage import StoreBusy, StoreUnavailable

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

Item = TypeVar("Item")
T = TypeVar("T")

log = logging.getLogger(__name__)

CLOSE_SECONDS = 1.0

INITIAL_BACKOFF_SECONDS = 0.02

CONNECT_RETRY_SECONDS = 1.0
LOG_INTERVAL_SECONDS = 60.0
"""How often `open` tries to connect to a server that is not available, and how often it logs that."""


@dataclass(frozen=True)
class Limits:
    """Connection pool and timeouts.

    pool_size: the maximum number of connections. queue_size: the maximum number of waiters. seconds: the total time of
    one call of a store's method, including waiting and retries. statement_seconds, lock_seconds: PostgreSQL's
    statement_timeout and lock_timeout. pooler: the mode of a pooler in front of the server. prepared_statements:
    whether the server keeps them for the next request.
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
        """Run-time parameters of each connection, in PostgreSQL's default unit, milliseconds."""
        return {
            "statement_timeout": f"{self.statement_seconds * 1000:.0f}",
            "lock_timeout": f"{self.lock_seconds * 1000:.0f}",
            "idle_in_transaction_session_timeout": f"{self.seconds * 1000:.0f}",
        }

    @property
    def attempt_seconds(self) -> float:
        """The timeout of one attempt. asyncpg sets no TCP keepalive: without this a half-open connection blocks its
        caller forever (https://github.com/MagicStack/asyncpg/issues/421 and similar)."""
        return min(self.seconds, self.statement_seconds + 0.5)  # the server's timeout fires first


@dataclass(frozen=True)
class DatabaseConfig:
    """How a service uses its database.

    name: its application_name in pg_stat_activity. setting: the variable of the URL, to name it in errors. migrations:
    the folder of its migrations. lock: the key of the advisory lock under which its pods apply them one at a time; any
    number that nothing else in the database locks.
    """

    name: str
    setting: str
    migrations: Path
    lock: int
    metrics: DatabaseMetrics


class _ReadOnlyServer(StoreUnavailable):
    """A standby or a read-only server, as during a failover: retried until wait_seconds have passed."""


class Database:
    """The base class of stores on PostgreSQL, which run their statements through `_run`."""

    kind = "postgresql"
    """The value of Service.storage."""

    def __init__(self, url: str, config: DatabaseConfig, *, limits: Limits, wait_seconds: float) -> None:
        """wait_seconds: how long `open` waits for a server that is not available yet. Raises ValueError for an invalid
        URL."""
        self._address = parse(url)
        self._config = config
        self._limits = limits
        self._wait_seconds = wait_seconds
        self._pool: Pool | None = None
        self._deadlines = Deadlines()
        self._wait_limit = WaitLimit(limits.queue_size, config.metrics)
        self._stuck_commits = StuckCommits(
            limit=limits.pool_size, seconds=limits.attempt_seconds, metrics=config.metrics
        )

    async def open(self) -> None:
        """Connects, applies migrations, and verifies that the server can be used. Raises StoreUnavailable."""
        address, config, limits = self._address, self._config, self._limits
        if address.ignored:
            log.info(
                "Ignoring parameters of the URL in %s that asyncpg lacks: %s",
                config.setting,
                ", ".join(address.ignored),
            )
        deadline = time.monotonic() + self._wait_seconds
        logged, log_again_at = "", 0.0
        while True:
            try:
                reject_session_parameters(address, config.setting, limits.pooler)
                await self._verify_server()
                await self._migrate()
                await self._verify_privileges()
                self._pool = Pool(
                    self._connect_for_pool,
                    max_size=limits.pool_size,
                    wait_limit=self._wait_limit,
                    metrics=config.metrics,
                )
                return
            except UNREACHABLE as error:
                if time.monotonic() >= deadline:
                    raise StoreUnavailable(
                        f"PostgreSQL at {address.where} cannot be reached: {reason(error)}. "
                        f"{next_step(error, config.setting)}"
                    ) from error
                message = (
                    f"PostgreSQL at {address.where} is not available yet ({reason(error)}): retrying every "
                    f"{CONNECT_RETRY_SECONDS:g} s. {next_step(error, config.setting)}"
                )
            except _ReadOnlyServer as error:
                if time.monotonic() >= deadline:
                    raise
                message = f"{error}: retrying every {CONNECT_RETRY_SECONDS:g} s"
            except PermanentConnectionError as error:
                raise StoreUnavailable(f"PostgreSQL at {address.where} cannot be used: {error}") from error
            except PREPARED_STATEMENT_LOST as error:
                hint = prepared_statement_hint(error, config.setting)
                raise StoreUnavailable(f"PostgreSQL at {address.where} returned an error: {hint}") from error
            except (asyncpg.PostgresError, *BROKEN_CONNECTION) as error:
                raise StoreUnavailable(
                    f"PostgreSQL at {address.where} returned an error: {reason(error)}. Fix it there or in "
                    f"{config.setting}."
                ) from error
            if message != logged or time.monotonic() >= log_again_at:  # in a cluster it may wait for days
                log.warning("%s", message)
                logged, log_again_at = message, time.monotonic() + LOG_INTERVAL_SECONDS
            await asyncio.sleep(CONNECT_RETRY_SECONDS)

    async def close(self) -> None:
        """Closes the connections gracefully, in at most CLOSE_SECONDS. Safe to call if it was never opened."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            try:
                await asyncio.wait_for(pool.close(), CLOSE_SECONDS)
            except (*UNREACHABLE, *BROKEN_CONNECTION) as error:
                log.info("Closing the PostgreSQL connections failed: %s", reason(error))

    async def ping(self) -> None:
        """Raises StoreUnavailable if the server is not responding or fails a check (checks.py), or if too many stuck
        commits keep it from accepting writes."""

        async def check(db: Connection) -> list[checks.Finding]:
            await self._stuck_commits.refresh(db)
            return await checks.check_server(db, self._limits, setting=self._config.setting)

        problems = [f"PostgreSQL: {each.message}" for each in await self._run(check) if each.action != "warn"]
        if self._stuck_commits.limit_reached:
            problems.append(f"Rejecting writes: {self._stuck_commits.message()}")
        if problems:
            raise StoreUnavailable(". ".join(problems))

    async def _run(
        self,
        work: Callable[[Connection], Coroutine[Any, Any, T]],
        settle: Callable[[Connection], Coroutine[Any, Any, T]] | None = None,
        *,
        seconds: float | None = None,
        settle_first: bool = False,
        waited: float = 0,
        on_failed_attempt: Callable[[], None] | None = None,
    ) -> T:
        """Runs `work` on a connection, and retries it within its time limit where a retry may succeed.

        settle: replaces `work` after a connection was lost with the outcome of `work` unknown. It resolves the in-doubt
        commit (PostgreSQL's term for prepared ones; here: a COMMIT whose result was lost): what it finds committed is
        durable when this returns. Required for all work whose writes are acknowledged. settle_first: the outcome of an
        attempt before this call is unknown. seconds: the time limit of this call and of each attempt, if not the
        defaults. waited: how much of its time the caller has already spent waiting. on_failed_attempt: called after a
        failed attempt that may be retried.
        """
        pool = self._pool
        if pool is None:
            raise StoreUnavailable("PostgreSQL: the storage is not open")
        now = asyncio.get_running_loop().time
        deadline = now() + (seconds or self._limits.seconds) - waited
        backoff = INITIAL_BACKOFF_SECONDS
        settling = False
        if settle is not None:
            settling = settle_first
            work = partial(_settle_durably, settle) if settling else partial(self._stuck_commits.write, work)
        while True:
            try:
                connection = await pool.acquire(deadline=deadline, waited=waited)
                attempt_deadline = min(deadline, now() + (seconds or self._limits.attempt_seconds))
                try:
                    result = await self._deadlines.enforce(attempt_deadline, work(connection))
                except (asyncio.CancelledError, *UNREACHABLE, *BROKEN_CONNECTION):
                    # It is broken, or still waits for a response that is no longer wanted.
                    self._stuck_commits.connection_abandoned()
                    pool.discard(connection)
                    raise
                except BaseException:
                    pool.release(connection)
                    raise
                pool.release(connection)
                return result
            except (*RETRYABLE, *UNREACHABLE, *BROKEN_CONNECTION) as error:
                if on_failed_attempt is not None:
                    on_failed_attempt()
                if not isinstance(error, RETRYABLE):
                    pool.discard_idle()
                    if settle is not None:
                        settling, work = True, partial(_settle_durably, settle)
                wait = backoff * SystemRandom().uniform(0.5, 1.5)  # jitter, against a thundering herd
                if now() + wait > deadline:
                    raise StoreUnavailable(
                        f"PostgreSQL could not complete the operation in time: {reason(error)}"
                    ) from error
                self._config.metrics.retries_total.labels(sqlstate(error)).inc()
                await asyncio.sleep(wait)
                backoff *= 2
                waited = 0  # a retry is a new wait: measured separately, and rejected if the queue is full
            except NOT_RETRYABLE as error:
                raise StoreUnavailable(f"PostgreSQL returned an error: {reason(error)}") from error
            except PREPARED_STATEMENT_LOST as error:
                hint = prepared_statement_hint(error, self._config.setting)
                raise StoreUnavailable(f"PostgreSQL returned an error: {hint}") from error
            except StoreBusy as error:
                if not settling:
                    raise
                # StoreBusy would promise that nothing was changed, but an earlier attempt may have committed.
                raise StoreUnavailable(f"PostgreSQL is not responding in time: {error}") from error

    async def _run_idempotent(self, work: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        """Like `_run`, for writes that are idempotent."""
        return await self._run(work, work)

    def _batch_reads(self, read: Callable[[Connection, list[Item]], Coroutine[Any, Any, list[T]]]) -> Batcher[Item, T]:
        """Independent reads; concurrent ones share one call of `read` (chassis.postgres.batching).

        read: the results for one or more items, in their order; see also `rows_by_key`.
        """

        async def read_one(db: Connection, item: Item) -> T:
            (result,) = await read(db, [item])
            return result

        return Batcher(
            self._run, self._wait_limit, seconds=self._limits.seconds, execute_one=read_one, execute_many=read
        )

    def _batch_writes(
        self,
        *,
        execute_one: Callable[[Connection, Item], Coroutine[Any, Any, T]],
        execute_many: Callable[[Connection, list[Item]], Coroutine[Any, Any, list[T]]],
        settle: Callable[[Connection, Item], Coroutine[Any, Any, T]],
    ) -> Batcher[Item, T]:
        """Independent writes; concurrent ones share one transaction, as a group commit.

        execute_many: all of them or none, in one transaction. settle: as in `_run`.
        """
        return Batcher(
            self._run,
            self._wait_limit,
            seconds=self._limits.seconds,
            execute_one=execute_one,
            execute_many=execute_many,
            settle=settle,
        )

    async def _verify_server(self) -> None:
        """Raises StoreUnavailable if the server, the database or the role is unsuitable, and PermanentConnectionError
        if a pooler does not pass on what the pool needs."""
        limits, setting = self._limits, self._config.setting
        async with self._probe() as db:
            await verify_session(db, limits.session, setting=setting, pooler=limits.pooler)
            if limits.pooler != "none" and limits.prepared_statements:
                await verify_prepared_statements(db, self._connect, setting=setting, pooler=limits.pooler)
            findings = await checks.check_server(db, limits, setting=setting)
        for each in findings:
            message = f"PostgreSQL at {self._address.where}: {each.message}"
            if each.action == "wait":
                raise _ReadOnlyServer(message)
            if each.action == "refuse":
                raise StoreUnavailable(message)
        for each in findings:
            log.warning("PostgreSQL at %s: %s", self._address.where, each.message)

    async def _migrate(self) -> None:
        config = self._config
        try:
            await migrate(
                self._address, config.migrations, lock=config.lock, setting=config.setting, pooler=self._limits.pooler
            )
        except asyncpg.InsufficientPrivilegeError as error:
            await self._verify_privileges()
            raise StoreUnavailable(
                f"PostgreSQL at {self._address.where}: {reason(error)}, which migrations require. GRANT USAGE, CREATE "
                f"ON SCHEMA ... TO the role in {config.setting}, which then owns the objects; or apply the migrations "
                "by running the command `migrate` with the URL of a role that has these privileges"
            ) from error

    async def _verify_privileges(self) -> None:
        """Raises StoreUnavailable if requests would fail for lack of privileges."""
        async with self._probe() as db:
            missing = await checks.missing_privileges(db)
        if missing:
            raise StoreUnavailable(f"PostgreSQL at {self._address.where}: {missing}")

    @contextlib.asynccontextmanager
    async def _probe(self) -> AsyncIterator[Connection]:
        """A connection like those of the pool, before the pool exists."""
        async with closing(await self._connect(), CLOSE_SECONDS) as db:
            async with asyncio.timeout(self._limits.attempt_seconds):
                yield db

    async def _connect_for_pool(self) -> Connection:
        """Like `_connect`, but raises StoreUnavailable. Without the address: /health, which is public, shows the
        message."""
        try:
            return await self._connect()
        except PermanentConnectionError as error:
            raise StoreUnavailable(f"PostgreSQL cannot be used: {error}") from error

    async def _connect(self) -> Connection:
        return await connect(
            self._address,
            setting=self._config.setting,
            seconds=self._limits.attempt_seconds,
            session={"application_name": self._config.name, **self._limits.session},
            pooler=self._limits.pooler,
            prepared_statements=self._limits.prepared_statements,
        )


def rows_by_key(
    *, one: str, many: str
) -> Callable[[Connection, list[Any]], Coroutine[Any, Any, list[asyncpg.Record | None]]]:
    """For `_batch_reads`: the row of each key, or None. one, many: as in `fetch_by_keys`, with the key as the first
    column."""

    async def read(db: Connection, keys: list[Any]) -> list[asyncpg.Record | None]:
        rows = {row[0]: row for row in await fetch_by_keys(db, keys, one=one, many=many)}
        return [rows.get(key) for key in keys]

    return read


async def fetch_by_keys(db: Connection, keys: Sequence[Any], *, one: str, many: str) -> list[asyncpg.Record]:
    """The rows with these keys.

    one: the statement for the row with the key $1. many: the statement for the rows with the keys in the array $1;
    preferably with a subquery per key, LATERAL with LIMIT 1: a plan of `= ANY` that was made while the table was small
    scans the whole table, and is kept while it grows.
    """
    return await (db.fetch(one, keys[0]) if len(keys) == 1 else db.fetch(many, keys))


@contextlib.asynccontextmanager
async def transaction(db: Connection) -> AsyncIterator[None]:
    """Like asyncpg's, but a cancellation does not roll back: the connection may be dead, and a ROLLBACK on it would
    wait forever. `_run` terminates the connection, which rolls back as well."""
    transaction = db.transaction()
    await transaction.start()
    try:
        yield
    except Exception:
        await transaction.rollback()
        raise
    await transaction.commit()


async def _settle_durably(settle: Callable[[Connection], Coroutine[Any, Any, T]], db: Connection) -> T:
    result = await settle(db)
    await make_durable(db)
    return result


async def make_durable(db: Connection) -> None:
    """Returns once everything that this connection can see is also on a synchronous standby, if the server has one.

    A commit that waits for a standby becomes visible to other sessions before a standby has it if the server restarts
    or the waiting session is terminated: what is found committed is not acknowledged before this returns. A separate
    transaction that writes WAL waits for all WAL before it; a read-only one waits for nothing
    (https://www.postgresql.org/docs/current/warm-standby.html#SYNCHRONOUS-REPLICATION).
    """
    await db.execute("SELECT pg_logical_emit_message(true, 'chassis', '')")
