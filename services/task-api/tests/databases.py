"""PostgreSQL for a test: a store on it, and a connection past the store."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg

from task_api.store import Limits
from task_api.store.postgres import PostgresStore

# Not by pg_stat_activity, which a transaction sees as it was when it first looked.
BLOCKED = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
"""How many wait for a lock of the connection that asks."""


@contextlib.asynccontextmanager
async def opened(url: str, **limits: Any) -> AsyncIterator[PostgresStore]:
    """A store that is open until the end of the block."""
    store = PostgresStore(url, limits=Limits(**limits), wait_seconds=0)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection that is open until the end of the block."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
