"""Unsuitable servers, databases and roles are detected at startup, not by the first request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from databases import connected
from note_stores import TEXT, add, open_store
from notes.store import NotesStore
from programs import DEADLINE_SECONDS
from replicated import Replicated, replicated

from chassis.postgres import checks
from chassis.postgres.database import Limits
from chassis.storage import StoreUnavailable

PRIVILEGES = "SELECT, INSERT, UPDATE, DELETE"


@contextlib.asynccontextmanager
async def dedicated_role(url: str) -> AsyncIterator[tuple[str, str]]:
    """The name and the URL of a dedicated role with USAGE on the schema, whose tables exist already."""
    async with open_store(url), connected(url) as admin:
        role, schema = f"role_{uuid4().hex}", await admin.fetchval("SELECT current_schema()")
        await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA {schema} TO {role}")
        parts = urlsplit(url)
        try:
            yield role, parts._replace(netloc=f"{role}:x@{parts.netloc.rpartition('@')[2]}").geturl()
        finally:
            await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def execute(url: str, *statements: str) -> None:
    async with connected(url) as admin:
        for statement in statements:
            await admin.execute(statement)


async def startup_error(url: str) -> str:
    """The error of a failed start."""
    with pytest.raises(StoreUnavailable) as error:
        await NotesStore(url, limits=Limits(), wait_seconds=0).open()
    return str(error.value)


async def test_missing_privileges_are_reported_with_their_grant_statement(postgres_url: str) -> None:
    async with dedicated_role(postgres_url) as (role, url):
        for granted, missing in (
            ("", f"{PRIVILEGES} ON notes TO {role}; GRANT SELECT ON schema_migrations"),
            ("SELECT ON ALL TABLES", "INSERT, UPDATE, DELETE ON notes"),
            ("SELECT, INSERT ON ALL TABLES", "UPDATE, DELETE ON notes"),
        ):
            if granted:
                await execute(postgres_url, f"GRANT {granted} IN SCHEMA {await _schema(postgres_url)} TO {role}")
            message = await startup_error(url)
            assert f"GRANT {missing} TO {role}" in message
        await execute(postgres_url, message.partition("owner: ")[2])
        async with open_store(url) as store:
            assert await store.get(await add(store)) == TEXT


async def test_a_serial_needs_a_privilege_on_its_sequence_and_an_identity_column_does_not(postgres_url: str) -> None:
    async with dedicated_role(postgres_url) as (role, url):
        await execute(
            postgres_url,
            "CREATE TABLE counted (one serial, other bigint GENERATED ALWAYS AS IDENTITY)",
            f"GRANT {PRIVILEGES} ON ALL TABLES IN SCHEMA {await _schema(postgres_url)} TO {role}",
        )
        message = await startup_error(url)
        assert message.endswith(f"owner: GRANT USAGE ON SEQUENCE counted_one_seq TO {role}")
        await execute(postgres_url, message.partition("owner: ")[2])
        async with open_store(url), connected(url) as db:
            await db.execute("INSERT INTO counted DEFAULT VALUES")


async def test_partitions_need_no_privileges(postgres_url: str) -> None:
    async with dedicated_role(postgres_url) as (role, url):
        await execute(
            postgres_url,
            "CREATE TABLE parted (number integer) PARTITION BY RANGE (number)",
            "CREATE TABLE part PARTITION OF parted DEFAULT",
            f"GRANT {PRIVILEGES} ON notes, parted TO {role}; GRANT SELECT ON schema_migrations TO {role}",
        )
        async with open_store(url), connected(url) as db:
            await db.execute("INSERT INTO parted VALUES (1)")


async def test_tables_of_other_owners_in_the_schema_are_not_checked(postgres_url: str) -> None:
    async with dedicated_role(postgres_url) as (role, url), dedicated_role(postgres_url) as (other, _):
        await execute(
            postgres_url,
            f"GRANT {PRIVILEGES} ON ALL TABLES IN SCHEMA {await _schema(postgres_url)} TO {role}",
            f"CREATE TABLE theirs (); ALTER TABLE theirs OWNER TO {other}",
        )
        async with open_store(url) as store:
            await store.ping()


async def test_missing_usage_on_the_schema_is_reported(postgres_url: str) -> None:
    async with dedicated_role(postgres_url) as (role, url):
        await execute(postgres_url, f"REVOKE USAGE ON SCHEMA {await _schema(postgres_url)} FROM {role}")
        assert f"GRANT USAGE ON SCHEMA ... TO {role}" in await startup_error(url)


async def test_missing_create_on_an_empty_schema_is_reported(postgres_url: str) -> None:
    async with dedicated_role(postgres_url) as (_, url):
        await execute(postgres_url, "DROP TABLE notes, schema_migrations")
        assert "GRANT USAGE, CREATE ON SCHEMA" in await startup_error(url)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("default_transaction_read_only = on", "RESET default_transaction_read_only"),
        ("session_replication_role = replica", "RESET session_replication_role"),
    ],
)
async def test_role_settings_that_break_writes_fail_startup(postgres_url: str, setting: str, expected: str) -> None:
    async with dedicated_role(postgres_url) as (role, url):
        await execute(postgres_url, f"ALTER ROLE {role} SUPERUSER", f"ALTER ROLE {role} SET {setting}")
        assert expected in await startup_error(url)
        await execute(postgres_url, f"ALTER ROLE {role} RESET ALL")
        async with open_store(url) as store:
            await store.ping()


async def test_a_role_with_asynchronous_commit_starts_degraded(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with dedicated_role(postgres_url) as (role, url):
        await execute(postgres_url, f"ALTER ROLE {role} SUPERUSER", f"ALTER ROLE {role} SET synchronous_commit = off")
        async with open_store(url) as store:
            assert await store.get(await add(store)) == TEXT
            with pytest.raises(StoreUnavailable, match=f"ALTER ROLE {role} RESET synchronous_commit"):
                await store.ping()
        assert "synchronous_commit is off" in caplog.text


@pytest.mark.parametrize(
    "setting",
    [
        "SET idle_session_timeout = '5s'",
        "SET track_activities = off",
        "SET transaction_timeout = '100ms'",
        "SET zero_damaged_pages = on",
        "CONNECTION LIMIT 3",
    ],
)
async def test_costly_role_settings_are_logged_without_degrading_health(
    postgres_url: str, setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with dedicated_role(postgres_url) as (role, url):
        await execute(
            postgres_url, f"GRANT {PRIVILEGES} ON ALL TABLES IN SCHEMA {await _schema(postgres_url)} TO {role}"
        )
        expected = [True]
        try:
            await execute(postgres_url, f"ALTER ROLE {role} {setting}")
        except asyncpg.UndefinedObjectError:  # older servers have no transaction_timeout
            expected = []
        async with open_store(url) as store:
            await store.ping()
        logged = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert [setting.split()[1] in line or "may open 3 connections" in line for line in logged] == expected


async def test_the_services_timeouts_override_those_of_the_role(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with dedicated_role(postgres_url) as (role, url):
        await execute(
            postgres_url,
            f"ALTER ROLE {role} SUPERUSER",
            f"ALTER ROLE {role} SET statement_timeout = '900ms'",
            f"ALTER ROLE {role} SET lock_timeout = '900ms'",
            f"ALTER ROLE {role} SET idle_in_transaction_session_timeout = '900ms'",
        )
        async with open_store(url) as store:
            await store.ping()
        assert not [record for record in caplog.records if record.levelno == logging.WARNING]
        # As behind a pooler that ignores startup parameters.
        async with connected(url) as db:
            findings = [each.message for each in await checks.check_server(db, Limits(), setting="NOTES_DATABASE_URL")]
        assert [message.partition(" is ")[0] for message in findings] == [
            "statement_timeout",
            "lock_timeout",
            "idle_in_transaction_session_timeout",
        ]
        assert f"ALTER ROLE {role} SET statement_timeout = '2s'" in findings[0]


async def test_timeouts_dropped_by_a_pooler_are_reported(postgres_url: str) -> None:
    async with connected(postgres_url) as db:
        findings = await checks.check_server(db, Limits(), setting="NOTES_DATABASE_URL")
    assert [each.action for each in findings] == ["warn"] * 3
    assert all("because a pooler drops" in each.message for each in findings)


async def test_a_database_with_an_encoding_other_than_utf8_is_rejected(postgres_server: str) -> None:
    name = f"latin_{uuid4().hex}"
    await execute(postgres_server, f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        assert "ENCODING 'UTF8'" in await startup_error(urlsplit(postgres_server)._replace(path=f"/{name}").geturl())
    finally:
        await execute(postgres_server, f"DROP DATABASE {name}")


async def test_a_server_that_is_too_old_is_rejected(postgres_url: str) -> None:
    async with connected(postgres_url) as db:
        state = {**dict(await db.fetchrow(checks.STATE) or {}), "version": 13, "full_version": "13.22"}
    (message,) = [
        each.message
        for each in checks.apply_rules(state, Limits(), setting="NOTES_DATABASE_URL")
        if each.action == "refuse"
    ]
    assert message == "PostgreSQL 13.22 is not supported: upgrade to 14 or later"


@pytest.fixture(scope="module")
def pair() -> Iterator[Replicated]:
    with replicated() as replicas:
        yield replicas


@pytest.mark.docker
@pytest.mark.postgresql
@pytest.mark.full
class TestReplicated:
    @pytest.mark.parametrize(
        ("setting", "expected"),
        [
            ("fsync = off", "fsync is off"),
            ("synchronous_commit = local", "a failover loses"),
            ("default_transaction_read_only = on", "are read-only"),
        ],
    )
    async def test_a_server_that_becomes_unsafe_later_degrades_health(
        self, pair: Replicated, setting: str, expected: str
    ) -> None:
        async with open_store(pair.url) as store:
            await store.ping()
            await execute(pair.url, f"ALTER SYSTEM SET {setting}", "SELECT pg_reload_conf()")
            try:
                await _until(store, expected)
            finally:
                name = setting.partition(" ")[0]
                await execute(pair.url, "SET default_transaction_read_only = off", f"ALTER SYSTEM RESET {name}")
                await execute(pair.url, "SELECT pg_reload_conf()")
            await _until(store, "")

    async def test_a_weaker_replication_guarantee_is_only_logged(
        self, pair: Replicated, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with dedicated_role(pair.url) as (role, url):
            await execute(
                pair.url, f"ALTER ROLE {role} SUPERUSER", f"ALTER ROLE {role} SET synchronous_commit = remote_write"
            )
            async with open_store(url) as store:
                await store.ping()
        assert "synchronous_commit is remote_write" in caplog.text

    async def test_a_standby_is_rejected(self, pair: Replicated) -> None:
        async with open_store(pair.url):
            pass  # so that the tables exist
        message = await startup_error(pair.standby_url)
        assert "this is a standby" in message
        assert "Name the primary in NOTES_DATABASE_URL" in message
        assert "target_session_attrs=read-write" in message

    async def test_startup_waits_for_the_promotion_of_a_standby(self, caplog: pytest.LogCaptureFixture) -> None:
        with replicated() as pair:
            async with open_store(pair.url):
                pass
            store = NotesStore(pair.standby_url, limits=Limits(), wait_seconds=DEADLINE_SECONDS)
            opening = asyncio.create_task(store.open())
            async with asyncio.timeout(DEADLINE_SECONDS):
                while "this is a standby" not in caplog.text:
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(pair.stop_standby)
                await asyncio.to_thread(pair.promote)
                await opening
            assert await store.get(await add(store)) == TEXT
            await store.close()


async def _until(store: NotesStore, expected: str) -> None:
    """Waits until `ping` fails with `expected`, or succeeds if it is empty."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                await store.ping()
                now = ""
            except StoreUnavailable as error:
                now = str(error)
            if bool(now) == bool(expected) and expected in now:
                return
            await asyncio.sleep(0.05)


async def _schema(url: str) -> str:
    async with connected(url) as db:
        return str(await db.fetchval("SELECT current_schema()"))
