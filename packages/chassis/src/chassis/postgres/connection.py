"""A connection to PostgreSQL, or the sentence that says why there is none."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

import asyncpg

from chassis.postgres.errors import CANNOT_CONNECT, UNREACHABLE, is_lasting, next_step, reason
from chassis.postgres.url import Address, Pooler

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

CACHED_STATEMENTS = 100
"""asyncpg's own default."""


class Refused(Exception):
    """The server, or what is before it, refuses in a way that waiting cannot mend; the message says what to do."""


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
    """setting: the variable of the URL, for who has to mend it. seconds: until it is open. command_seconds: for what it
    is asked later, where that says nothing else. session: settings; those of the URL come first.

    Raises Refused, and what asyncpg raises where the server cannot be reached.
    """
    session = {**session, **address.session}
    # PgBouncer takes application_name and refuses, or is told to ignore, all others: in mode `session` they are set
    # once the connection is there, and in mode `transaction` they would be set for everybody.
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
    except (*UNREACHABLE, *CANNOT_CONNECT) as error:
        if is_lasting(error):
            raise Refused(f"{reason(error)}. {next_step(error, setting)}") from error
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
async def goodbye(connection: Connection, seconds: float) -> AsyncIterator[Connection]:
    """Closes it at the end of the block, and cuts it where the block fails: a goodbye waits for the server, and who was
    told to end does not wait."""
    try:
        yield connection
    except BaseException:
        connection.terminate()
        raise
    await connection.close(timeout=seconds)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
