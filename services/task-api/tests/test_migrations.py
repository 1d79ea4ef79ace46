"""Migrations that were changed since they were applied, half written, or applied by a release without checksums."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from databases import connected

from chassis.postgres import schema
from task_api.store import Limits, StoreUnavailable, from_url, migrations

FIRST = "0001_tasks.sql"
Execute = Callable[[str], Awaitable[list[tuple[object, ...]]]]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/tasks.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def folder(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of the migrations of that database, which are what is applied."""
    shutil.copytree(migrations.FOLDER, tmp_path / "migrations")
    monkeypatch.setattr(migrations, "FOLDER", tmp_path / "migrations")
    return tmp_path / "migrations" / ("sqlite" if url.startswith("sqlite") else "postgres")


@pytest.fixture
def execute(url: str) -> Execute:
    async def execute(statement: str) -> list[tuple[object, ...]]:
        if url.startswith("sqlite"):
            with contextlib.closing(sqlite3.connect(urlsplit(url).path, isolation_level=None)) as db:
                return list(db.execute(statement))
        async with connected(url) as connection:
            return [tuple(row) for row in await connection.fetch(statement)]

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
    await execute("ALTER TABLE schema_migrations DROP COLUMN checksum")
    await start(url)
    assert await execute("SELECT number FROM schema_migrations WHERE checksum IS NULL") == []
    (folder / FIRST).write_text("SELECT 1;")
    with pytest.raises(StoreUnavailable, match="0001 tasks"):
        await start(url)


async def test_a_release_without_checksums_works_on_the_new_schema(url: str, folder: Path, execute: Execute) -> None:
    await start(url)
    at = "'now'" if url.startswith("sqlite") else "now()"
    await execute(f"INSERT INTO schema_migrations (number, name, applied_at) VALUES (9999, 'theirs', {at})")
    await start(url)  # which does not know it
    (folder / "9999_theirs.sql").write_text("SELECT 1;")
    await start(url)
    assert await execute("SELECT number FROM schema_migrations WHERE checksum IS NULL") == []


@pytest.mark.parametrize("rest", ["ALTER TABLE half ADD COLUMN", "INSERT INTO half VALUES"])
async def test_half_of_one_leaves_nothing_behind(url: str, folder: Path, execute: Execute, rest: str) -> None:
    await start(url)
    applied = await execute("SELECT number FROM schema_migrations ORDER BY number")
    file = folder / "9999_half.sql"
    file.write_text(f"CREATE TABLE half (a integer);\n{rest}")
    with pytest.raises(StoreUnavailable):
        await start(url)
    assert await execute("SELECT number FROM schema_migrations ORDER BY number") == applied
    file.write_text("CREATE TABLE half (a integer);")
    await start(url)
    assert await execute("SELECT a FROM half") == []


@contextlib.asynccontextmanager
async def without_checksums(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    await start(url)
    async with connected(url) as connection:
        await connection.execute("ALTER TABLE schema_migrations DROP COLUMN checksum")
        yield connection


async def test_a_dump_keeps_nobody_from_starting(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "RECORD_WAIT_SECONDS", 0.05)
    async with without_checksums(postgres_url) as dump:
        async with dump.transaction():
            await dump.execute("LOCK TABLE schema_migrations IN ACCESS SHARE MODE")
            await start(postgres_url)
        await start(postgres_url)
        assert await dump.fetchval("SELECT count(*) FROM schema_migrations WHERE checksum IS NULL") == 0


async def test_who_may_not_change_the_schema_starts_on_what_others_applied(postgres_url: str) -> None:
    role = f"reader_{uuid4().hex}"
    parts = urlsplit(postgres_url)
    own = parts._replace(netloc=f"{role}:x@{parts.netloc.rpartition('@')[2]}").geturl()
    async with without_checksums(postgres_url) as owner:
        schema = await owner.fetchval("SELECT current_schema()")
        await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        try:
            await owner.execute(
                f"GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON schema_migrations TO {role}"
            )
            await start(own)
        finally:
            await owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
