"""Migrations of SQLite that were changed since they were applied, half written, or applied without checksums."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from task_api.store import Limits, StoreUnavailable, from_url, migrations

FIRST = "0001_tasks.sql"
Execute = Callable[[str], list[tuple[object, ...]]]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/tasks.db"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of the migrations, which are what is applied."""
    shutil.copytree(migrations.FOLDER, tmp_path / "migrations")
    monkeypatch.setattr(migrations, "FOLDER", tmp_path / "migrations")
    return tmp_path / "migrations/sqlite"


@pytest.fixture
def execute(url: str) -> Execute:
    def execute(statement: str) -> list[tuple[object, ...]]:
        with contextlib.closing(sqlite3.connect(urlsplit(url).path, isolation_level=None)) as db:
            return list(db.execute(statement))

    return execute


async def start(url: str) -> None:
    """As a process of the service starts."""
    store = from_url(url, limits=Limits(), wait_seconds=0)
    await store.open()
    await store.close()


async def test_one_that_was_changed_since_is_refused_by_its_name_until_it_is_put_back(url: str, folder: Path) -> None:
    await start(url)
    before = (folder / FIRST).read_text()
    (folder / FIRST).write_text(before.replace("title", "name"))
    with pytest.raises(StoreUnavailable, match=r"0001 tasks was changed .* Put the file back .* next number\. Or, .*"):
        await start(url)
    (folder / FIRST).write_text(before)
    await start(url)


async def test_other_ends_of_lines_are_no_change(url: str, folder: Path) -> None:
    await start(url)
    file = folder / FIRST
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    await start(url)


async def test_what_a_release_without_checksums_applied_is_taken_as_it_is(
    url: str, folder: Path, execute: Execute
) -> None:
    await start(url)
    execute("ALTER TABLE schema_migrations DROP COLUMN checksum")
    await start(url)
    assert execute("SELECT number FROM schema_migrations WHERE checksum IS NULL") == []
    (folder / FIRST).write_text("SELECT 1;")
    with pytest.raises(StoreUnavailable, match="0001 tasks"):
        await start(url)


async def test_a_release_without_checksums_works_on_the_new_schema(url: str, folder: Path, execute: Execute) -> None:
    await start(url)
    execute("INSERT INTO schema_migrations (number, name, applied_at) VALUES (9999, 'theirs', 'now')")
    await start(url)  # which does not know it
    (folder / "9999_theirs.sql").write_text("SELECT 1;")
    await start(url)
    assert execute("SELECT number FROM schema_migrations WHERE checksum IS NULL") == []


@pytest.mark.parametrize("rest", ["ALTER TABLE half ADD COLUMN", "INSERT INTO half VALUES"])
async def test_half_of_one_leaves_nothing_behind(url: str, folder: Path, execute: Execute, rest: str) -> None:
    await start(url)
    applied = execute("SELECT number FROM schema_migrations ORDER BY number")
    file = folder / "9999_half.sql"
    file.write_text(f"CREATE TABLE half (a integer);\n{rest}")
    with pytest.raises(StoreUnavailable):
        await start(url)
    assert execute("SELECT number FROM schema_migrations ORDER BY number") == applied
    file.write_text("CREATE TABLE half (a integer);")
    await start(url)
    assert execute("SELECT a FROM half") == []
