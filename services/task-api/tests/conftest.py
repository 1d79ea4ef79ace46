"""A real PostgreSQL for the tests, and each kind of storage in turn."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Literal
from uuid import uuid4

import asyncpg
import pytest
from acknowledged.row import Row
from databases import POSTGRES_IMAGE, docker_answers
from testcontainers.community.postgres import PostgresContainer

from task_api import store
from task_api.store import Store

POSTGRES_OPTIONS = "-c fsync=off -c autovacuum=off"
"""No test here pulls the plug, so nothing has to reach the disk. And the change feed waits for every transaction that
is older than a change, autovacuum's too: a test would see the change a moment late, now and then."""
NOBODY = 65534

SUMMARY = "summary"
"""What a test records under this name is printed at the end of the run."""

StorageKind = Literal["memory", "sqlite", "postgresql"]


def pytest_configure(config: pytest.Config) -> None:
    for marker in ("postgresql: needs a PostgreSQL, by Docker or initdb", "docker: needs Docker"):
        config.addinivalue_line("markers", f"{marker}. scripts/test.sh leaves it out where there is none, and says so")
    config.addinivalue_line("markers", "generated: makes up what it tries; many times as much of it in `make fuzz`")


@pytest.hookimpl(tryfirst=True)  # before the marks select
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs Docker or PostgreSQL, and puts the long tests first, those of one storage before those of the
    other.

    Workers take two tests each to begin with: so each has long ones, and the short ones fill up what is left.
    """
    for item in items:
        fixtures: list[str] = getattr(item, "fixturenames", [])
        if "own_postgres" in fixtures:
            item.add_marker("docker")
        if "postgres_server" in fixtures or "postgresql" in item.name:
            item.add_marker("postgresql")
    long = [item for item in items if item.get_closest_marker("timeout")]
    long.sort(key=lambda item: "postgresql" in item.name)
    items[:] = long + [item for item in items if item not in long]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests recorded as their summary."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == SUMMARY:
                terminalreporter.write_line(f"\n{text}")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Tests run on the event loop that the service runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int | None:
    """What the generated tests begin with in `make fuzz`; without one they take a small share, the same each time."""
    given: str | None = pytestconfig.getoption("--hypothesis-seed")
    return None if given is None else int(given)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL for this run: a container, else one made by a local `initdb`."""
    with contextlib.ExitStack() as stack:
        if docker_answers():
            container = PostgresContainer(POSTGRES_IMAGE, driver=None).with_command(f"postgres {POSTGRES_OPTIONS}")
            server = stack.enter_context(container)
            yield server.get_connection_url()
        elif initdb := _find_initdb():
            yield stack.enter_context(_local_postgres(initdb.parent))
        else:
            pytest.fail("Neither Docker nor a local initdb was found. Start Docker, or install PostgreSQL's server")


@pytest.fixture
def keep(record_property: Callable[[str, object], None]) -> Callable[[Row], None]:
    """Prints a row at the end of the run, and leaves it in the folder FAULT_ROWS for who collects rows."""

    def keeping(row: Row) -> None:
        record_property(SUMMARY, str(row))
        if folder := os.environ.get("FAULT_ROWS"):
            row.write(Path(folder) / f"{uuid4().hex}.json")

    return keeping


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty place of this test's own: a schema, which is made in a fraction of a database's time."""
    name = f"test_{uuid4().hex}"
    _execute(postgres_server, f"CREATE SCHEMA {name}")
    yield f"{postgres_server}?search_path={name}"
    # A test that failed in the middle of a transaction still holds its locks, and nobody ends it while this waits.
    _execute(postgres_server, f"SET lock_timeout = '30s'; DROP SCHEMA {name} CASCADE")


def _execute(url: str, statement: str) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(statement)
        await connection.close()

    loop = asyncio.new_event_loop()  # not asyncio.run: it would take the loop of an async test away
    loop.run_until_complete(execute())
    loop.close()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty storage, of each kind in turn."""
    kind: StorageKind = request.param
    match kind:
        case "memory":
            return "memory://"
        case "sqlite":
            return f"sqlite:///{tmp_path}/tasks.db"
        case "postgresql":
            url: str = request.getfixturevalue("postgres_url")
            return url


@pytest.fixture
async def tasks_store(storage_url: str) -> AsyncIterator[Store]:
    """An open, empty store of each kind in turn."""
    opened = store.from_url(storage_url)
    await opened.open()
    yield opened
    await opened.close()


def _find_initdb() -> Path | None:
    on_path = shutil.which("initdb")
    packaged = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))  # Debian keeps it off the PATH
    found = on_path or (packaged[-1] if packaged else None)
    return Path(found) if found else None


@contextlib.contextmanager
def _local_postgres(bin_dir: Path) -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="task-api-postgres-"))
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
