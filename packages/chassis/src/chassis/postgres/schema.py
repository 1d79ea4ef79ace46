"""Schema migrations, applied when the service starts."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from chassis.migrations import Migration, read_migrations, verify_checksums
from chassis.postgres.connection import closing, connect
from chassis.postgres.errors import UNREACHABLE, reason
from chassis.postgres.url import Address, Pooler
from chassis.storage import StoreUnavailable

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

log = logging.getLogger(__name__)

MIGRATION_CONNECT_SECONDS = 5.0
"""For what is quick: connecting, lookups, closing."""
MIGRATION_WAIT_SECONDS = 60.0
RECORD_WAIT_SECONDS = 1.0
MIGRATION_SECONDS = 600.0
"""For a migration itself. A server that lost power never reports that it will not respond."""


async def migrate(address: Address, folder: Path, *, lock: int, setting: str, pooler: Pooler) -> None:
    """Applies pending migrations, on a dedicated connection: its advisory lock serializes pods that start at the same
    time.

    folder: of the migrations. lock: any number that nothing else in this database locks. setting, pooler: as in
    `connect`.

    Raises StoreUnavailable if a migration fails, was changed after it was applied, or cannot acquire the lock, and what
    `connect` raises.
    """
    connection = await connect(
        address,
        setting=setting,
        seconds=MIGRATION_CONNECT_SECONDS,
        command_seconds=MIGRATION_CONNECT_SECONDS,
        session={},
        pooler=pooler,
        prepared_statements=False,  # so that a pooler without them needs no setting for this
    )
    async with closing(connection, MIGRATION_CONNECT_SECONDS):
        await _apply_pending(connection, read_migrations(folder), lock)


async def _apply_pending(connection: Connection, migrations: list[Migration], lock: int) -> None:
    applied = await _read_applied(connection)
    verify_checksums(migrations, applied)
    if all(m.number in applied for m in migrations):
        await _try_record_checksums(connection, migrations, applied)
        return
    async with _locked_transaction(connection, lock):
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = await _read_applied(connection)
        verify_checksums(migrations, applied)
        await _record_checksums(connection, migrations, applied)
    for migration in migrations:
        if migration.number not in applied:
            await _apply(connection, migration, lock)


@contextlib.asynccontextmanager
async def _locked_transaction(connection: Connection, lock: int) -> AsyncIterator[None]:
    """A transaction that holds the advisory lock until it ends: a session-level lock would stay with a pooler's
    connection.

    It also waits for session-level locks with the same key, which earlier releases used.
    """
    # Not `async with`, which would roll back on a connection that may be dead: closing it rolls back as well.
    transaction = connection.transaction()
    await transaction.start()
    # The role's own timeouts may be meant for requests.
    await connection.execute(
        f"SET LOCAL lock_timeout = '{MIGRATION_WAIT_SECONDS:.0f}s'; "
        f"SET LOCAL statement_timeout = '{MIGRATION_SECONDS:.0f}s'; "
        f"SET LOCAL idle_in_transaction_session_timeout = '{MIGRATION_WAIT_SECONDS:.0f}s'"
    )
    # A little longer than the server's timeout, whose error names the lock.
    timeout = MIGRATION_WAIT_SECONDS + MIGRATION_CONNECT_SECONDS
    try:
        await connection.execute(f"SELECT pg_advisory_xact_lock({lock})", timeout=timeout)
    except asyncpg.LockNotAvailableError as error:
        raise StoreUnavailable(
            f"Another session has held the migration lock for {MIGRATION_WAIT_SECONDS:.0f} s. Either it is still "
            "migrating, and a restart succeeds once it is done; or it hangs and must be terminated: "
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted "
            f"AND objid = {lock} AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        ) from error
    yield
    await transaction.commit()


async def _read_applied(connection: Connection) -> dict[int, str | None]:
    """The checksums by number; None if the release that applied it recorded none."""
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return {}
    # As JSON, since the column may not exist.
    rows = await connection.fetch("SELECT number, to_jsonb(m) ->> 'checksum' AS checksum FROM schema_migrations m")
    return {row["number"]: row["checksum"] for row in rows}


async def _record_checksums(
    connection: Connection, migrations: list[Migration], applied: dict[int, str | None]
) -> None:
    """Records the checksums of migrations that an earlier release applied without one: the first version seen is
    trusted."""
    await connection.execute("ALTER TABLE schema_migrations ADD COLUMN IF NOT EXISTS checksum text")
    for migration in migrations:
        if migration.number in applied and applied[migration.number] is None:
            await connection.execute(
                "UPDATE schema_migrations SET checksum = $2 WHERE number = $1 AND checksum IS NULL",
                migration.number,
                migration.checksum,
            )


async def _try_record_checksums(
    connection: Connection, migrations: list[Migration], applied: dict[int, str | None]
) -> None:
    """The same where no migration is pending. A failure must not prevent startup: the role may lack the privilege, and
    a dump holds a lock on the table for hours."""
    if all(applied[m.number] is not None for m in migrations):
        return
    await connection.execute(f"SET lock_timeout = '{RECORD_WAIT_SECONDS * 1000:.0f}ms'")
    try:
        await _record_checksums(connection, migrations, applied)
    except (
        asyncpg.InsufficientPrivilegeError,
        asyncpg.LockNotAvailableError,
        asyncpg.ReadOnlySQLTransactionError,
    ) as error:
        log.info("Recording the checksums of migrations failed, the next start retries: %s", reason(error))


async def _apply(connection: Connection, migration: Migration, lock: int) -> None:
    try:
        async with _locked_transaction(connection, lock):
            if migration.number in await _read_applied(connection):  # by another pod, which had the lock before
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
            f"Migration {migration.number:04d} {migration.name} was rolled back because another session has locked a "
            f"table: {reason(error)}. The next start retries it. To find long-running transactions: "
            "SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database() ORDER BY xact_start"
        ) from error
    except asyncpg.PostgresError as error:
        raise StoreUnavailable(
            f"Migration {migration.number:04d} {migration.name} failed and was rolled back: "
            f"{reason(error)}. The previous release keeps working: run `make rollback` and fix the migration."
        ) from error
    log.info("Applied migration %04d %s", migration.number, migration.name)
