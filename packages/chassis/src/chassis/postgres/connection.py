"""Connecting to PostgreSQL, with an actionable message for each permanent error."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

import asyncpg

from chassis.postgres.errors import CONNECT_ERRORS, UNREACHABLE, is_permanent, next_step, reason
from chassis.postgres.url import Address, Pooler

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

CACHED_STATEMENTS = 100
"""asyncpg's default."""


class PermanentConnectionError(Exception):
    """Connections fail, or cannot be used, for a reason that a retry cannot fix; the message says what to do."""


async def connect(
    address: Address,
    *,
    setting: str,
    seconds: float,
    command_seconds: float | None = None,
    session: Mapping[str, str],
    pooler: Pooler = "none",
    prepared_statements: bool = True,
) -> Connection:
    """setting: the variable of the URL, to name it in errors. seconds: the timeout for connecting. command_seconds: the
    default timeout of later commands. session: run-time parameters; those in the URL take precedence.

    Raises PermanentConnectionError, and what asyncpg raises if the server is unreachable.
    """
    session = {**session, **address.session}
    # PgBouncer accepts application_name, and rejects all others or, if told to, ignores them: in session mode they are
    # set once the connection is open, and in transaction mode they would be set for every client.
    name = {"application_name": session.pop("application_name")} if "application_name" in session else {}
    try:
        connection = await asyncpg.connect(
            address.dsn,
            timeout=seconds,
            command_timeout=command_seconds,
            ssl=address.tls,
            server_settings=name | session if pooler == "none" else name,
            statement_cache_size=CACHED_STATEMENTS if prepared_statements else 0,
        )
        if pooler == "session" and session:
            await _set_session(connection, session, seconds)
        return connection
    except (*UNREACHABLE, *CONNECT_ERRORS) as error:
        if is_permanent(error):
            raise PermanentConnectionError(f"{reason(error)}. {next_step(error, setting)}") from error
        raise


async def _set_session(connection: Connection, session: Mapping[str, str], seconds: float) -> None:
    """In one round trip."""
    pairs = ", ".join(f"set_config({_literal(name)}, {_literal(value)}, false)" for name, value in session.items())
    try:
        await connection.execute(f"SELECT {pairs}", timeout=seconds)
    except BaseException:
        connection.terminate()
        raise


@contextlib.asynccontextmanager
async def closing(connection: Connection, seconds: float) -> AsyncIterator[Connection]:
    """Closes the connection at the end of the block, and terminates it if the block fails: a graceful close waits for
    the server, and a process that is shutting down must not."""
    try:
        yield connection
    except BaseException:
        connection.terminate()
        raise
    await connection.close(timeout=seconds)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
