"""PostgreSQL migrations, and roles without the privileges to apply them."""

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
from migration_contract import Execute, MigrationContract, Start
from note_stores import TEXT, add, open_store
from notes import store
from notes.store import NotesStore

from chassis.postgres import schema
from chassis.postgres.database import Limits
from chassis.storage import StoreUnavailable

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the migrations, which the store applies."""
    copies = tmp_path / "migrations"
    shutil.copytree(store.CONFIG.migrations, copies)
    monkeypatch.setattr(store, "CONFIG", replace(store.CONFIG, migrations=copies))
    return copies


async def start_and_stop(url: str) -> None:
    """Starts and stops a store, like a process of the service."""
    notes = NotesStore(url, limits=Limits(), wait_seconds=0)
    await notes.open()
    await notes.close()


@pytest.fixture
def start(postgres_url: str) -> Start:
    return lambda: start_and_stop(postgres_url)


@pytest.fixture
async def execute(postgres_url: str) -> AsyncIterator[Execute]:
    async with connected(postgres_url) as connection:

        async def execute(statement: str) -> list[tuple[object, ...]]:
            return [tuple(row) for row in await connection.fetch(statement)]

        yield execute


class TestPostgresql(MigrationContract):
    first = "0001_notes.sql"
    word = "text"


@contextlib.asynccontextmanager
async def without_checksums(url: str) -> AsyncIterator[Connection]:
    await start_and_stop(url)
    async with connected(url) as connection:
        await connection.execute("ALTER TABLE schema_migrations DROP COLUMN checksum")
        yield connection


async def test_a_running_dump_does_not_block_startup(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "RECORD_WAIT_SECONDS", 0.05)
    async with without_checksums(postgres_url) as dump:
        async with dump.transaction():
            await dump.execute("LOCK TABLE schema_migrations IN ACCESS SHARE MODE")
            await start_and_stop(postgres_url)
        await start_and_stop(postgres_url)
        assert await dump.fetchval("SELECT count(*) FROM schema_migrations WHERE checksum IS NULL") == 0


async def test_a_migration_blocked_by_a_table_lock_can_be_retried_and_its_error_finds_the_holder(
    postgres_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MIGRATION_WAIT_SECONDS", 1.0)
    await start_and_stop(postgres_url)
    (folder / "0099_more.sql").write_text("ALTER TABLE notes ADD COLUMN more text")
    async with connected(postgres_url) as other, connected(postgres_url) as admin:
        async with other.transaction():
            await other.execute("LOCK TABLE notes")
            with pytest.raises(StoreUnavailable, match=r"another session has locked a table: .*lock timeout") as raised:
                await start_and_stop(postgres_url)
            assert "fix" not in str(raised.value)
            oldest = (await admin.fetch(str(raised.value).partition("transactions: ")[2]))[0]
            assert "LOCK TABLE notes" in oldest["query"]
        await start_and_stop(postgres_url)
        assert await admin.fetchval("SELECT count(more) FROM notes") == 0


async def test_a_role_without_ddl_privileges_starts_if_all_migrations_are_applied(postgres_url: str) -> None:
    role = f"reader_{uuid4().hex}"
    parts = urlsplit(postgres_url)
    role_url = parts._replace(netloc=f"{role}:x@{parts.netloc.rpartition('@')[2]}").geturl()
    async with without_checksums(postgres_url) as owner:
        schema = await owner.fetchval("SELECT current_schema()")
        await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        try:
            await owner.execute(
                f"GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON schema_migrations TO {role};"
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO {role}"
            )
            await start_and_stop(role_url)
        finally:
            await owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_separate_roles_for_migrating_and_serving_share_the_schema(postgres_url: str) -> None:
    """As documented in docs/extend.md."""
    owner, serving = f"owner_{uuid4().hex}", f"serving_{uuid4().hex}"
    parts = urlsplit(postgres_url)
    host = parts.netloc.rpartition("@")[2]
    async with connected(postgres_url) as admin:
        schema = await admin.fetchval("SELECT current_schema()")
        await admin.execute(
            f"CREATE ROLE {owner} LOGIN PASSWORD 'x'; CREATE ROLE {serving} LOGIN PASSWORD 'x'; "
            f"GRANT CREATE, USAGE ON SCHEMA {schema} TO {owner}; GRANT USAGE ON SCHEMA {schema} TO {serving}; "
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema}"
            f" GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {serving}; "
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT USAGE ON SEQUENCES TO {serving}"
        )
        try:
            role_url = parts._replace(netloc=f"{serving}:x@{host}").geturl()
            with pytest.raises(StoreUnavailable, match=r"permission denied.*command `migrate` with the URL of a role"):
                await start_and_stop(role_url)
            await start_and_stop(parts._replace(netloc=f"{owner}:x@{host}").geturl())
            async with open_store(role_url) as notes:
                assert await notes.get(await add(notes)) == TEXT
        finally:
            await admin.execute(f"DROP OWNED BY {owner} CASCADE; DROP OWNED BY {serving}; DROP ROLE {owner}, {serving}")
