"""PostgreSQL for a test: where it comes from, a store on it, and a connection past the store."""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import docker
from docker.errors import DockerException

from chassis.postgres.pool import Pool
from task_api.store import Limits
from task_api.store.metrics import metrics
from task_api.store.postgres import PostgresStore

POSTGRES_IMAGE = "postgres:17"

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
async def pool_of(url: str, *, size: int) -> AsyncIterator[Pool]:
    """A pool as a store has it, without the store: for who holds its connections longer than a request would."""
    pool = Pool(lambda: asyncpg.connect(url), size=size, queue_size=10, metrics=metrics)
    try:
        yield pool
    finally:
        await pool.close()


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection that is open until the end of the block."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def docker_answers() -> bool:
    """Whether there is a Docker to run containers with."""
    with warnings.catch_warnings():
        # Where nobody listens the library forgets to close its socket, and that would fail the next test.
        warnings.simplefilter("ignore", ResourceWarning)
        answers = _docker_is_pinged()
        gc.collect()
    return answers


def _docker_is_pinged() -> bool:
    try:
        with contextlib.closing(docker.from_env()) as client:
            return bool(client.ping())
    except DockerException:
        return False
