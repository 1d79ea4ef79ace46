"""PostgreSQL servers for tests, and connections that bypass the store."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import glob
import os
import shutil
import socket
import subprocess
import tempfile
import warnings
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path

import asyncpg
import docker
import pytest
from docker.errors import DockerException
from testcontainers.community.postgres import PostgresContainer

from chassis.postgres.metrics import DatabaseMetrics
from chassis.postgres.pool import Pool
from chassis.postgres.wait_limit import WaitLimit

POSTGRES_IMAGE = "postgres:17"
POSTGRES_OPTIONS = "-c autovacuum=off"
"""task-api's change feed waits for every transaction that is older than a change, including autovacuum's: a test would
sometimes see the change late."""
IN_MEMORY = "/var/lib/postgresql/data"
"""Data directory on tmpfs: no test simulates a power loss. fsync stays on: without it a service reports `degraded`."""
NOBODY = 65534

# Not pg_stat_activity: a transaction sees it as of its first access.
BLOCKED = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
"""Number of sessions that wait for a lock held by the querying connection."""


@contextlib.contextmanager
def running_postgres() -> Iterator[str]:
    """The URL of a PostgreSQL until the end of the block: a container, or without Docker a server made by `initdb`."""
    if docker_is_available():
        container = PostgresContainer(POSTGRES_IMAGE, driver=None).with_command(f"postgres {POSTGRES_OPTIONS}")
        with container.with_tmpfs_mount(IN_MEMORY) as server:
            yield server.get_connection_url()
    elif initdb := _find_initdb():
        with _local_postgres(initdb.parent) as url:
            yield url
    else:
        pytest.fail("Neither Docker nor a local initdb was found. Start Docker, or install the PostgreSQL server")


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection that is open until the end of the block."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def complete(work: Coroutine[None, None, None]) -> None:
    """Runs it from a fixture that is not async. asyncio.run would remove the loop of an async test."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(work)
    loop.close()


def execute(url: str, statement: str) -> None:
    """Executes it on a connection of its own."""

    async def connect_and_execute() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(statement)
        await connection.close()

    complete(connect_and_execute())


@contextlib.asynccontextmanager
async def pool_of(url: str, *, size: int, metrics: DatabaseMetrics) -> AsyncIterator[Pool]:
    """A store's pool without the store, for tests that hold its connections longer than a request would."""
    wait_limit = WaitLimit(10, metrics)
    pool = Pool(lambda: asyncpg.connect(url), max_size=size, wait_limit=wait_limit, metrics=metrics)
    try:
        yield pool
    finally:
        await pool.close()


def docker_is_available() -> bool:
    """Whether Docker is running."""
    with warnings.catch_warnings():
        # If nothing listens, the library leaves its socket open, and the warning would fail the next test.
        warnings.simplefilter("ignore", ResourceWarning)
        available = _ping_docker()
        gc.collect()
    return available


def _ping_docker() -> bool:
    try:
        with contextlib.closing(docker.from_env()) as client:
            return bool(client.ping())
    except DockerException:
        return False


def _find_initdb() -> Path | None:
    on_path = shutil.which("initdb")
    packaged = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))  # Debian keeps it off the PATH
    initdb = on_path or (packaged[-1] if packaged else None)
    return Path(initdb) if initdb else None


@contextlib.contextmanager
def _local_postgres(bin_dir: Path) -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="test-postgres-"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = NOBODY
        os.chown(folder, NOBODY, NOBODY)

    def run(*command: str) -> None:
        done = subprocess.run(
            [bin_dir / command[0], *command[1:]], user=user, cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command} failed:\n{done.stdout}{done.stderr}"

    data, options = folder / "data", f"-p {port} -k {folder} -h 127.0.0.1 {POSTGRES_OPTIONS}"
    try:
        run("initdb", "--username=test", "--auth=trust", "--no-sync", str(data))
        run("pg_ctl", "start", "--wait", f"--pgdata={data}", f"--options={options}", f"--log={folder}/log")
        try:
            yield f"postgresql://test@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "stop", "--mode=immediate", f"--pgdata={data}")
    finally:
        shutil.rmtree(folder)
