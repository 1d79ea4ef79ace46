"""Parametrizes tests over all stores, and reports measurements after the run."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal
from uuid import uuid4

import pytest
from acknowledged.row import Row
from databases import complete, execute

from task_api import store
from task_api.store import Store

pytest_plugins = ["event_loop", "postgres_fixtures", "workers"]

SUMMARY = "summary"
"""What a test records under this name is printed at the end of the run."""

EMPTY = """
SET lock_timeout = '30s';
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT tablename FROM pg_tables WHERE schemaname = current_schema AND tablename <> 'schema_migrations'
    LOOP
        EXECUTE format('DELETE FROM %I', name);
    END LOOP;
    INSERT INTO changes_purged (xid, number) VALUES ('0', 0);
END
$$
"""
"""As the migrations leave it. DELETE: for the few rows of a test it is faster than TRUNCATE."""

StorageKind = Literal["memory", "sqlite", "postgresql"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "generated: makes up what it tries; many times as much of it in `make fuzz`")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests recorded as their summary."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == SUMMARY:
                terminalreporter.write_line(f"\n{text}")


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int | None:
    """The seed of the generated tests in `make fuzz`; without one they take a small sample, the same each time."""
    option: str | None = pytestconfig.getoption("--hypothesis-seed")
    return None if option is None else int(option)


@pytest.fixture
def keep(record_property: Callable[[str, object], None]) -> Callable[[Row], None]:
    """Prints a row at the end of the run, and stores it in the folder FAULT_ROWS, if set."""

    def keeping(row: Row) -> None:
        record_property(SUMMARY, str(row))
        if folder := os.environ.get("FAULT_ROWS"):
            row.write(Path(folder) / f"{uuid4().hex}.json")

    return keeping


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite database, to copy."""
    file = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def migrated_schema(postgres_server: str) -> str:
    """The URL of a migrated schema. Migrating one took two thirds of the time of a test of the API."""
    schema = f"test_{uuid4().hex}"
    url = f"{postgres_server}?search_path={schema}"
    execute(postgres_server, f"CREATE SCHEMA {schema}")
    _migrate(url)
    return url


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty, migrated database, of each kind in turn."""
    kind: StorageKind = request.param
    match kind:
        case "memory":
            return "memory://"
        case "sqlite":
            file = shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "tasks.db")
            return f"sqlite:///{file}"
        case "postgresql":
            url: str = request.getfixturevalue("migrated_schema")
            execute(url, EMPTY)
            return url


def _migrate(url: str) -> None:
    async def migrate() -> None:
        migrated = store.from_url(url)
        await migrated.open()
        await migrated.close()

    complete(migrate())


@pytest.fixture
async def tasks_store(storage_url: str) -> AsyncIterator[Store]:
    """An open, empty store of each kind in turn."""
    opened = store.from_url(storage_url)
    await opened.open()
    yield opened
    await opened.close()
