"""A real PostgreSQL for tests. In conftest.py: pytest_plugins = ["event_loop", "postgres_fixtures"]."""

from __future__ import annotations

import os
from collections.abc import Iterator
from uuid import uuid4

import pytest
from databases import execute, running_postgres


def pytest_configure(config: pytest.Config) -> None:
    needs = {"postgresql": "PostgreSQL, from Docker or initdb", "docker": "Docker"}
    needs |= {"go": "Go", "node": "Node with npm", "chromium": "Chromium or Chrome"}
    for marker, need in needs.items():
        description = f"{marker}: needs {need}. scripts/test.sh skips it if that is missing, and reports it"
        config.addinivalue_line("markers", description)
    full = "full: slow; skipped by `make test`, run by `make test-full`"
    config.addinivalue_line("markers", full)


@pytest.hookimpl(tryfirst=True)  # before tests are selected by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests that need PostgreSQL, and runs the long tests first, those of one storage before those of the other.

    Each worker starts with two tests: so each gets long ones, and the short ones fill the remaining time.
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
    """The URL of a PostgreSQL for this run: that of TEST_POSTGRES_URL, which `make mutants` sets, or a new one."""
    if url := os.environ.get("TEST_POSTGRES_URL"):
        yield url
        return
    with running_postgres() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty schema for this test: creating one takes a fraction of the time of a database."""
    name = f"test_{uuid4().hex}"
    execute(postgres_server, f"CREATE SCHEMA {name}")
    yield f"{postgres_server}?search_path={name}"
    # A test that failed inside a transaction still holds its locks, and they are not released while this waits.
    execute(postgres_server, f"SET lock_timeout = '30s'; DROP SCHEMA {name} CASCADE")
