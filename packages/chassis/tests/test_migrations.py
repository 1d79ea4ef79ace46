"""Migrations that were changed since they were applied, half written, or applied by a release without checksums."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from databases import connected
from notes import store
from notes.store import NotesStore

from chassis.postgres import schema
from chassis.postgres.database import Limits
from chassis.storage import StoreUnavailable

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

FIRST = "0001_notes.sql"
NUMBERS = "SELECT number FROM schema_migrations"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of the migrations, which are what is applied."""
    copies = tmp_path / "migrations"
    shutil.copytree(store.USE.migrations, copies)
    monkeypatch.setattr(store, "USE", replace(store.USE, migrations=copies))
    return copies


@pytest.fixture
async def db(postgres_url: str) -> AsyncIterator[Connection]:
    """A connection past the store."""
    async with connected(postgres_url) as connection:
        yield connection


async def start(url: str) -> None:
    """As a process of the service starts."""
    notes = NotesStore(url, limits=Limits(), wait_seconds=0)
    await notes.open()
    await notes.close()


async def test_one_that_was_changed_since_is_refused_by_its_name_until_it_is_put_back(
    postgres_url: str, folder: Path
) -> None:
    await start(postgres_url)
    before = (folder / FIRST).read_text()
    (folder / FIRST).write_text(before.replace("text", "varchar"))
    with pytest.raises(StoreUnavailable, match=r"0001 notes was changed .* Put the file back .* next number\. Or, .*"):
        await start(postgres_url)
    (folder / FIRST).write_text(before)
    await start(postgres_url)


async def test_other_ends_of_lines_are_no_change(postgres_url: str, folder: Path) -> None:
    await start(postgres_url)
    file = folder / FIRST
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    await start(postgres_url)


async def test_what_a_release_without_checksums_applied_is_taken_as_it_is(
    postgres_url: str, folder: Path, db: Connection
) -> None:
    await start(postgres_url)
    await db.execute("ALTER TABLE schema_migrations DROP COLUMN checksum")
    await start(postgres_url)
    assert await db.fetch(f"{NUMBERS} WHERE checksum IS NULL") == []
    (folder / FIRST).write_text("SELECT 1;")
    with pytest.raises(StoreUnavailable, match="0001 notes"):
        await start(postgres_url)


async def test_a_release_without_checksums_works_on_the_new_schema(
    postgres_url: str, folder: Path, db: Connection
) -> None:
    await start(postgres_url)
    await db.execute("INSERT INTO schema_migrations (number, name) VALUES (9999, 'theirs')")
    await start(postgres_url)  # which does not know it
    (folder / "9999_theirs.sql").write_text("SELECT 1;")
    await start(postgres_url)
    assert await db.fetch(f"{NUMBERS} WHERE checksum IS NULL") == []


@pytest.mark.parametrize("rest", ["ALTER TABLE half ADD COLUMN", "INSERT INTO half VALUES"])
async def test_half_of_one_leaves_nothing_behind(postgres_url: str, folder: Path, db: Connection, rest: str) -> None:
    await start(postgres_url)
    applied = await db.fetch(NUMBERS)
    file = folder / "9999_half.sql"
    file.write_text(f"CREATE TABLE half (a integer);\n{rest}")
    with pytest.raises(StoreUnavailable):
        await start(postgres_url)
    assert await db.fetch(NUMBERS) == applied
    file.write_text("CREATE TABLE half (a integer);")
    await start(postgres_url)
    assert await db.fetch("SELECT a FROM half") == []


@contextlib.asynccontextmanager
async def without_checksums(url: str) -> AsyncIterator[Connection]:
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
