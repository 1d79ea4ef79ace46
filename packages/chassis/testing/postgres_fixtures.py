"""A real PostgreSQL for tests. In conftest.py: pytest_plugins = ["event_loop", "postgres_fixtures"]."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import asyncpg
import pytest
from databases import running_postgres


def pytest_configure(config: pytest.Config) -> None:
    needs = {"postgresql": "a PostgreSQL, by Docker or initdb", "docker": "Docker"}
    needs |= {"go": "Go", "node": "Node with npm", "chromium": "Chromium or Chrome"}
    for marker, what in needs.items():
        said = f"{marker}: needs {what}. scripts/test.sh leaves it out where there is none, and says so"
        config.addinivalue_line("markers", said)
    full = "full: takes long, so `make test` leaves it out and `make test-full` does not"
    config.addinivalue_line("markers", full)


@pytest.hookimpl(tryfirst=True)  # before the marks select
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs PostgreSQL, and puts the long tests first, those of one storage before those of the other.

    Workers take two tests each to begin with: so each has long ones, and the short ones fill up what is left.
    """
    for item in items:
        fixtures: list[str] = getattr(item, "fixturenames", [])
        if "postgres_server" in fixtures or "postgresql" in item.name:
            item.add_marker("postgresql")
    long = [item for item in items if item.get_closest_marker("timeout")]
    long.sort(key=lambda item: "postgresql" in item.name)
    items[:] = long + [item for item in items if item not in long]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL for this run."""
    with running_postgres() as url:
        yield url


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
