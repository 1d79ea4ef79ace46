"""The idempotency records under the former name of their table.

Pods of the previous release use it during a rollout and after a rollback; the next release drops it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from databases import connected
from making import NOW, a_task
from previous_release import LAST_MIGRATION
from stores import migrate_up_to, open_store

from task_api.store import (
    IDEMPOTENCY_HOURS,
    IdempotencyKeyInUse,
    IdempotencyRecord,
    Store,
    Write,
    from_url,
)

# The statements of the previous release.
INSERT = """
    INSERT INTO answers AS existing (subject, key, fingerprint, status, body, at) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (subject, key) DO UPDATE
       SET fingerprint = excluded.fingerprint, status = excluded.status, body = excluded.body, at = excluded.at
     WHERE existing.at <= excluded.at - interval '24 hours'
    RETURNING 1
"""
SELECT = "SELECT fingerprint, status, body FROM answers WHERE subject = $1 AND key = $2"
DELETE = "DELETE FROM answers WHERE at < $1"

SQLITE_INSERT = "INSERT OR REPLACE INTO answers (subject, key, fingerprint, status, body, at) VALUES (?, ?, ?, ?, ?, ?)"
SQLITE_SELECT = "SELECT subject, key, fingerprint, status, body FROM answers WHERE subject = ? AND key = ? AND at > ?"
SQLITE_DELETE = "DELETE FROM answers WHERE at < ?"

TABLES = "answers, changes, changes_purged, tasks"
EXPIRED = NOW + timedelta(hours=IDEMPOTENCY_HOURS)

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


def a_record(key: str) -> IdempotencyRecord:
    return IdempotencyRecord("ann", key, "fingerprint", 201, f'{{"id": "{uuid4()}"}}')


async def create(store: Store, record: IdempotencyRecord, now: datetime = NOW) -> IdempotencyRecord | None:
    return await store.commit([Write(a_task(), "created")], record, now=now)


async def insert(db: Connection, record: IdempotencyRecord, now: datetime = NOW) -> bool:
    """As the previous release; whether it was inserted."""
    values = (record.subject, record.key, record.fingerprint, record.status, record.body, now)
    return await db.fetchval(INSERT, *values) is not None


async def select(db: Connection, key: str) -> IdempotencyRecord | None:
    """As the previous release."""
    row = await db.fetchrow(SELECT, "ann", key)
    return None if row is None else IdempotencyRecord("ann", key, *row)


# --- statements of the previous release ---------------------------------------------------


async def test_both_releases_find_each_others_records(postgres_url: str) -> None:
    ours, theirs = a_record("ours"), a_record("theirs")
    async with open_store(postgres_url) as store, connected(postgres_url) as previous:
        assert await create(store, ours) is None
        assert await insert(previous, theirs)
        assert await select(previous, "ours") == ours
        assert await store.get_record("ann", "theirs", now=NOW) == theirs
        assert not await insert(previous, a_record("ours"))
        assert await create(store, a_record("theirs")) == theirs
        assert await store.count() == 1


async def test_each_release_replaces_the_others_expired_records(postgres_url: str) -> None:
    async with open_store(postgres_url) as store, connected(postgres_url) as previous:
        await create(store, a_record("ours"))
        await insert(previous, a_record("theirs"))
        replaced = {key: a_record(key) for key in ("ours", "theirs")}
        assert await insert(previous, replaced["ours"], EXPIRED)
        assert await create(store, replaced["theirs"], EXPIRED) is None
        for key, record in replaced.items():
            assert await select(previous, key) == await store.get_record("ann", key, now=EXPIRED) == record


async def test_each_release_purges_the_others_records(postgres_url: str) -> None:
    async with open_store(postgres_url) as store, connected(postgres_url) as previous:
        for key in ("ours", "kept"):
            await create(store, a_record(key), EXPIRED if key == "kept" else NOW)
        assert await previous.execute(DELETE, EXPIRED) == "DELETE 1"
        await insert(previous, a_record("theirs"))
        await store.purge(deleted_before=NOW, records_before=EXPIRED)
        assert await select(previous, "theirs") is None
        assert await select(previous, "kept") is not None


async def test_a_key_in_use_by_one_release_is_in_use_for_the_other(postgres_url: str) -> None:
    async with (
        open_store(postgres_url, lock_seconds=0.3) as store,
        connected(postgres_url) as previous,
        connected(postgres_url) as other,
    ):
        await previous.execute("SET lock_timeout = '300ms'")
        async with previous.transaction():
            await insert(previous, a_record("theirs"))
            with pytest.raises(IdempotencyKeyInUse):
                await create(store, a_record("theirs"))
        async with other.transaction():
            await other.execute(INSERT.replace("answers", "idempotency_records"), "ann", "ours", "f", 201, "{}", NOW)
            with pytest.raises(asyncpg.LockNotAvailableError):
                await insert(previous, a_record("ours"))


async def test_a_statement_prepared_before_the_migration_works_after_it(postgres_url: str) -> None:
    await migrate_up_to(postgres_url, LAST_MIGRATION)
    async with connected(postgres_url) as previous:
        before, after = a_record("before"), a_record("after")
        await insert(previous, before)
        assert await select(previous, "before") == before
        async with open_store(postgres_url) as store:
            assert await store.get_record("ann", "before", now=NOW) == before
            assert not await insert(previous, before)
            assert await insert(previous, after)
            assert await select(previous, "after") == await store.get_record("ann", "after", now=NOW) == after


async def test_the_previous_release_finds_the_same_records_in_sqlite(tmp_path: Path) -> None:
    file = tmp_path / "tasks.db"
    store = from_url(f"sqlite:///{file}")
    await store.open()
    ours, theirs = a_record("ours"), a_record("theirs")
    await create(store, ours)
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as previous:
        for body in ("replaced", theirs.body):
            previous.execute(SQLITE_INSERT, ("ann", "theirs", "fingerprint", 201, body, NOW.isoformat()))
        assert await store.get_record("ann", "theirs", now=NOW) == theirs
        found = previous.execute(SQLITE_SELECT, ("ann", "ours", (NOW - timedelta(hours=1)).isoformat()))
        assert [IdempotencyRecord(*row) for row in found] == [ours]
        previous.execute(SQLITE_DELETE, (EXPIRED.isoformat(),))
        assert await store.get_record("ann", "ours", now=NOW) is None
    await store.close()


# --- privileges -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Roles:
    """owner: the URL of the role that migrates. serving: of the one that serves requests, role: its name."""

    owner: str
    serving: str
    role: str


@contextlib.asynccontextmanager
async def separate_roles(url: str) -> AsyncIterator[Roles]:
    owner, serving = f"owner_{uuid4().hex}", f"serving_{uuid4().hex}"
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    owner_url, serving_url = (parts._replace(netloc=f"{role}:x@{host}").geturl() for role in (owner, serving))
    async with connected(url) as admin:
        schema = await admin.fetchval("SELECT current_schema()")
        await admin.execute(
            f"CREATE ROLE {owner} LOGIN PASSWORD 'x'; CREATE ROLE {serving} LOGIN PASSWORD 'x'; "
            f"GRANT CREATE, USAGE ON SCHEMA {schema} TO {owner}; GRANT USAGE ON SCHEMA {schema} TO {serving}"
        )
        try:
            yield Roles(owner_url, serving_url, serving)
        finally:
            for role in (owner, serving):
                await admin.execute(f"DROP OWNED BY {role} CASCADE")
            await admin.execute(f"DROP ROLE {owner}, {serving}")


async def grant(owner_url: str, role: str) -> None:
    """What the previous release needs, without default privileges."""
    async with connected(owner_url) as owner:
        await owner.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLES} TO {role}; GRANT SELECT ON schema_migrations TO {role};"
            f"GRANT USAGE ON SEQUENCE changes_number_seq TO {role}"
        )


async def test_a_role_has_its_privileges_under_both_names_after_the_migration(postgres_url: str) -> None:
    async with separate_roles(postgres_url) as roles:
        await migrate_up_to(roles.owner, LAST_MIGRATION)
        await grant(roles.owner, roles.role)
        async with open_store(roles.owner):
            pass
        async with open_store(roles.serving) as store, connected(roles.serving) as previous:
            await create(store, a_record("ours"))
            assert not await insert(previous, a_record("ours"))
            assert await insert(previous, a_record("theirs"))
            assert await previous.execute(DELETE, EXPIRED) == "DELETE 2"


async def test_privileges_are_copied_to_the_former_name(postgres_url: str) -> None:
    async with separate_roles(postgres_url) as roles:
        await migrate_up_to(roles.owner, LAST_MIGRATION)
        async with connected(roles.owner) as owner:
            await owner.execute(
                "GRANT SELECT ON answers TO PUBLIC;"
                f"GRANT INSERT ON answers TO {roles.role} WITH GRANT OPTION; GRANT DELETE ON answers TO {roles.role}"
            )
        async with open_store(roles.owner), connected(postgres_url) as db:
            each = "SELECT acl::text FROM pg_class, unnest(relacl) AS acl WHERE oid = $1::text::regclass ORDER BY 1"
            granted = f"SELECT ARRAY({each})"
            before = await db.fetchval(granted, "idempotency_records")
            assert len(before) == 3
            assert await db.fetchval(granted, "answers") == before


async def test_a_superuser_that_migrates_keeps_the_owner(postgres_url: str) -> None:
    async with separate_roles(postgres_url) as roles:
        await migrate_up_to(roles.owner, LAST_MIGRATION)
        async with open_store(postgres_url), open_store(roles.owner), connected(roles.owner) as previous:
            assert await insert(previous, a_record("theirs"))


# --- plans and the next release ---------------------------------------------------------------


async def test_the_previous_release_uses_the_indexes(postgres_url: str) -> None:
    async with open_store(postgres_url), connected(postgres_url) as db:
        await db.execute(
            "INSERT INTO idempotency_records SELECT 'ann', n::text, 'f', 201, '{}', now() - n * interval '1 second'"
            " FROM generate_series(1, 20000) AS n; ANALYZE idempotency_records"
        )
        for statement, index in (
            (
                "SELECT fingerprint, status, body FROM {} WHERE subject = 'ann' AND key = '7'",
                "idempotency_records_pkey",
            ),
            ("DELETE FROM {} WHERE at < now() - interval '20000 seconds'", "idempotency_records_by_time"),
        ):
            for table in ("answers", "idempotency_records"):
                rows = await db.fetch(f"EXPLAIN {statement.format(table)}")
                plan = "\n".join(row[0] for row in rows)
                assert f"using {index} " in plan, plan


async def test_the_next_release_can_drop_the_former_name(postgres_url: str) -> None:
    record = a_record("kept")
    async with open_store(postgres_url) as store, connected(postgres_url) as db:
        await create(store, record)
        await db.execute("DROP VIEW answers")
        assert await create(store, a_record("kept")) == record
        assert await create(store, a_record("new")) is None
