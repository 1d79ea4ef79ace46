"""Poolers between the service and PostgreSQL: their features, verified before the first request.

Behind a pooler in transaction mode, clients share PostgreSQL's sessions: what one client sets, prepares or locks in a
session affects the next. Without these checks every request would fail, or one now and then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import asyncpg

from chassis.postgres.connection import PermanentConnectionError, closing
from chassis.postgres.errors import PREPARED_STATEMENT_LOST, reason
from chassis.postgres.url import Address, Pooler

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

CLOSE_SECONDS = 1.0
BACKEND_PID = "SELECT pg_backend_pid()"
SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY ($1::text[])"


def reject_session_parameters(address: Address, setting: str, pooler: Pooler) -> None:
    """Raises PermanentConnectionError if the URL has parameters that the pooler does not pass on."""
    rejected = {"options"} if pooler == "session" else {"options", "search_path"} if pooler == "transaction" else set()
    if found := sorted(address.session.keys() & rejected):
        raise PermanentConnectionError(
            f"a pooler in {pooler} mode does not support {', '.join(found)} in the URL. Remove it from {setting}, and "
            "set it on the role: ALTER ROLE ... SET search_path = ..."
        )


async def verify_session(db: Connection, session: Mapping[str, str], *, setting: str, pooler: Pooler) -> None:
    """Raises PermanentConnectionError if a connection lacks its run-time parameters, or transactions.

    Through a pooler in transaction mode it has the role's parameters, which chassis.postgres.checks compares.
    """
    if pooler != "none":
        await _verify_transactions(db)
    if pooler == "transaction":
        return
    rows = await db.fetch(SETTINGS, list(session))
    found = {row["name"]: row["setting"] for row in rows}
    if missing := [name for name, value in session.items() if found.get(name) != value]:
        raise PermanentConnectionError(
            f"connections lack the {', '.join(missing)} they were opened with, so there is a pooler in front of the "
            f"server: set {setting.removesuffix('URL')}POOLER to its mode, session or transaction (PgBouncer's "
            "pool_mode)"
        )


async def _verify_transactions(db: Connection) -> None:
    try:
        await db.execute("BEGIN")
        await db.execute("COMMIT")
    except asyncpg.PostgresConnectionError as error:
        if "statement pooling" not in str(error):  # PgBouncer's message; it has no SQLSTATE for this
            raise
        raise PermanentConnectionError(
            f"{reason(error)}. The pooler is in statement mode, which does not support transactions. Set its pool_mode "
            "to transaction, at least for this database"
        ) from error


async def verify_prepared_statements(
    first: Connection, connect: Callable[[], Awaitable[Connection]], *, setting: str, pooler: Pooler
) -> None:
    """Opens a second connection, to detect a pooler that lets the two share a server connection. Raises
    PermanentConnectionError, and what asyncpg raises."""
    # Poolers assign the most recently used server connection, unless another client takes it in between.
    async with closing(await connect(), CLOSE_SECONDS) as second:
        try:
            pids = {await (await db.prepare(BACKEND_PID, name="chassis_proof")).fetchval() for db in (first, second)}
        except PREPARED_STATEMENT_LOST as error:
            raise PermanentConnectionError(prepared_statement_hint(error, setting)) from error
    if pooler == "session" and len(pids) == 1:
        prefix = setting.removesuffix("URL")
        raise PermanentConnectionError(
            f"the pooler is in transaction mode, but {prefix}POOLER is session. Set it to transaction"
        )


def prepared_statement_hint(error: BaseException, setting: str) -> str:
    """The error and its fix, for a prepared statement that is missing or exists already."""
    prefix = setting.removesuffix("URL")
    return (
        f"{str(error).splitlines()[0]}. A pooler in transaction mode without support for prepared statements is in "
        f"front of the server: set {prefix}POOLER=transaction, and {prefix}PREPARED_STATEMENTS=false or PgBouncer's "
        "max_prepared_statements (1.21 and later)"
    )
