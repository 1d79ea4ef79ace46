"""The schema in PostgreSQL, brought up to date when the service starts."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from chassis.migrations import Migration, read_migrations, verify_checksums
from chassis.postgres.connection import connect, goodbye
from chassis.postgres.errors import UNREACHABLE, reason
from chassis.postgres.url import Address, Pooler
from chassis.storage import StoreUnavailable

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

log = logging.getLogger(__name__)

MIGRATION_CONNECT_SECONDS = 5.0
"""For what takes no time: to connect, to look up, to say goodbye."""
MIGRATION_WAIT_SECONDS = 60.0
RECORD_WAIT_SECONDS = 1.0
MIGRATION_SECONDS = 600.0
"""For a migration itself. A server that lost its power never says that it will not answer."""


async def migrate(address: Address, folder: Path, *, lock: int, setting: str, pooler: Pooler) -> None:
    """Applies what is missing, on a connection of its own: pods that start together take turns by its lock.

    folder: of the migrations. lock: any number that nothing else in this database locks. setting, pooler: as of
    `connect`.

    Raises StoreUnavailable where a migration fails, was changed since it was applied, or its lock is not to be had, and
    what `connect` raises.
    """
    connection = await connect(
        address,
        setting=setting,
        seconds=MIGRATION_CONNECT_SECONDS,
        command_seconds=MIGRATION_CONNECT_SECONDS,
        session={},
        pooler=pooler,
        prepared_statements=False,  # a pooler that has none is no reason to ask for a setting here
    )
    async with goodbye(connection, MIGRATION_CONNECT_SECONDS):
        await _bring_up_to_date(connection, read_migrations(folder), lock)


async def _bring_up_to_date(connection: Connection, wanted: list[Migration], lock: int) -> None:
    applied = await _applied(connection)
    verify_checksums(wanted, applied)
    if all(m.number in applied for m in wanted):
        await _record_if_possible(connection, wanted, applied)
        return
    async with _turn(connection, lock):
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = await _applied(connection)
        verify_checksums(wanted, applied)
        await _record(connection, wanted, applied)
    for migration in wanted:
        if migration.number not in applied:
            await _apply(connection, migration, lock)


@contextlib.asynccontextmanager
async def _turn(connection: Connection, lock: int) -> AsyncIterator[None]:
    """A transaction under the lock, which ends with it: that of a session would stay with a pooler's connection.

    Whoever holds the session's lock of the same number, as the releases before did, is waited for, too.
    """
    # Not `async with`, which would undo it on a connection that may be dead: its end undoes it as well.
    transaction = connection.transaction()
    await transaction.start()
    # Those of the role may be meant for requests.
    await connection.execute(
        f"SET LOCAL lock_timeout = '{MIGRATION_WAIT_SECONDS:.0f}s'; "
        f"SET LOCAL statement_timeout = '{MIGRATION_SECONDS:.0f}s'; "
        f"SET LOCAL idle_in_transaction_session_timeout = '{MIGRATION_WAIT_SECONDS:.0f}s'"
    )
    # Ours is a little longer than the server's, which says what it waited for.
    wait = MIGRATION_WAIT_SECONDS + MIGRATION_CONNECT_SECONDS
    try:
        await connection.execute(f"SELECT pg_advisory_xact_lock({lock})", timeout=wait)
    except asyncpg.LockNotAvailableError as error:
        raise StoreUnavailable(
            f"Another session has held the lock for migrations for {MIGRATION_WAIT_SECONDS:.0f} s. Either it still "
            "migrates, and this works when it is done; or it hangs, and has to be ended: "
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted "
            f"AND objid = {lock} AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        ) from error
    yield
    await transaction.commit()


async def _applied(connection: Connection) -> dict[int, str | None]:
    """The checksums by number; None where a release applied it that kept none."""
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return {}
    # As JSON, since the column may not be there.
    rows = await connection.fetch("SELECT number, to_jsonb(m) ->> 'checksum' AS checksum FROM schema_migrations m")
    return {row["number"]: row["checksum"] for row in rows}


async def _record(connection: Connection, wanted: list[Migration], applied: dict[int, str | None]) -> None:
    """Keeps the checksums of what a release applied that kept none: as it is at first sight it is taken for right."""
    await connection.execute("ALTER TABLE schema_migrations ADD COLUMN IF NOT EXISTS checksum text")
    for migration in wanted:
        if migration.number in applied and applied[migration.number] is None:
            await connection.execute(
                "UPDATE schema_migrations SET checksum = $2 WHERE number = $1 AND checksum IS NULL",
                migration.number,
                migration.checksum,
            )


async def _record_if_possible(connection: Connection, wanted: list[Migration], applied: dict[int, str | None]) -> None:
    """The same where nothing else is to be done, which must not keep anybody from starting: not a user without the
    right to, and not a dump, which holds a lock on the table for hours."""
    if all(applied[m.number] is not None for m in wanted):
        return
    await connection.execute(f"SET lock_timeout = '{RECORD_WAIT_SECONDS * 1000:.0f}ms'")
    try:
        await _record(connection, wanted, applied)
    except (
        asyncpg.InsufficientPrivilegeError,
        asyncpg.LockNotAvailableError,
        asyncpg.ReadOnlySQLTransactionError,
    ) as error:
        log.info("The checksums of migrations could not be kept, the next start tries again: %s", reason(error))


async def _apply(connection: Connection, migration: Migration, lock: int) -> None:
    try:
        async with _turn(connection, lock):
            if migration.number in await _applied(connection):  # by another pod, whose turn came before
                return
            await connection.execute(migration.sql, timeout=MIGRATION_SECONDS)
            await connection.execute(
                "INSERT INTO schema_migrations (number, name, checksum) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.checksum,
            )
    except (*UNREACHABLE, asyncpg.InsufficientPrivilegeError):
        raise
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
        raise StoreUnavailable(
            f"Migration {migration.number:04d} {migration.name} was undone, since another session kept it from a "
            f"table: {reason(error)}. The next start tries it again. Who has been in a transaction for long: "
            "SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database() ORDER BY xact_start"
        ) from error
    except asyncpg.PostgresError as error:
        raise StoreUnavailable(
            f"Migration {migration.number:04d} {migration.name} failed and was undone: {reason(error)}. "
            "The release before works as it did: go back to it (make rollback), and mend the migration."
        ) from error
    log.info("Applied migration %04d %s", migration.number, migration.name)
