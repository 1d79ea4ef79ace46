"""What a pooler between the service and PostgreSQL lets through, proved before the first request.

A session of PostgreSQL's is not the service's behind one of mode `transaction`: what is set, prepared or locked in it
meets the next client. Without a word about it here, each request would fail, or now and then one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import asyncpg

from chassis.postgres.connection import Refused, goodbye
from chassis.postgres.errors import STATEMENT_LOST
from chassis.postgres.url import Address, Pooler

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

GOODBYE_SECONDS = 1.0
PROOF = "SELECT pg_backend_pid()"
SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY ($1::text[])"


def refuse_session(address: Address, setting: str, pooler: Pooler) -> None:
    """Raises Refused where the URL asks for what the pooler does not let through."""
    refused = {"options"} if pooler == "session" else {"options", "search_path"} if pooler == "transaction" else set()
    if found := sorted(address.session.keys() & refused):
        raise Refused(
            f"{', '.join(found)} in the URL does not pass a pooler of mode {pooler}. Remove it from {setting}, and "
            "set it on the role: ALTER ROLE ... SET search_path = ..."
        )


async def prove_session(db: Connection, session: Mapping[str, str], *, setting: str, pooler: Pooler) -> None:
    """Raises Refused where a connection has not the settings that it was to have. Through a pooler of transactions it
    has those of the role, which chassis.postgres.checks compares."""
    if pooler == "transaction":
        return
    rows = await db.fetch(SETTINGS, list(session))
    found = {row["name"]: row["setting"] for row in rows}
    if missing := [name for name, value in session.items() if found.get(name) != value]:
        raise Refused(
            f"A connection is without the {', '.join(missing)} that it asks for. There is a pooler between: set "
            f"{setting.removesuffix('URL')}POOLER to its mode, session or transaction (PgBouncer's pool_mode)"
        )


async def prove_statements(
    first: Connection, connect: Callable[[], Awaitable[Connection]], *, setting: str, pooler: Pooler
) -> None:
    """Opens one connection more, to see whether a pooler lets the two share a session of PostgreSQL's. Raises Refused,
    and what asyncpg raises."""
    # Poolers give who comes next the connection that was used last, if nobody else came in between.
    async with goodbye(await connect(), GOODBYE_SECONDS) as second:
        try:
            pids = {await (await db.prepare(PROOF, name="chassis_proof")).fetchval() for db in (first, second)}
        except STATEMENT_LOST as error:
            raise Refused(statement_lost(error, setting)) from error
    if pooler == "session" and len(pids) == 1:
        prefix = setting.removesuffix("URL")
        raise Refused(f"The pooler is of mode transaction, and {prefix}POOLER says session. Set it to transaction")


def statement_lost(error: BaseException, setting: str) -> str:
    """What to do where a statement is not there that was prepared, or is there already."""
    prefix = setting.removesuffix("URL")
    return (
        f"{str(error).splitlines()[0]}. A pooler of mode transaction is between that keeps no "
        f"prepared statements: set {prefix}POOLER=transaction, and {prefix}PREPARED_STATEMENTS=false or PgBouncer's "
        "max_prepared_statements (1.21 and later)"
    )
