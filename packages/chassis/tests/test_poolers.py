"""PgBouncer between the service and PostgreSQL: two settings cover what works; everything else is rejected by name."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from databases import connected
from note_stores import TEXT, add, open_store
from notes import store
from notes.store import LOCK, NotesStore
from pgbouncer import Pooled, running_pgbouncers

from chassis.postgres import database
from chassis.postgres.database import Limits
from chassis.storage import StoreUnavailable

pytestmark = pytest.mark.docker

IGNORE = "statement_timeout,lock_timeout,idle_in_transaction_session_timeout"
POOLERS: dict[str, dict[str, object]] = {
    "session": {"pool_mode": "session"},
    "transaction": {"pool_mode": "transaction", "max_prepared_statements": 100},
    "forgetful": {"pool_mode": "transaction", "max_prepared_statements": 0},  # like all versions before 1.21
    "ignoring": {"pool_mode": "session", "ignore_startup_parameters": IGNORE},
    "statement": {"pool_mode": "statement", "max_prepared_statements": 100},
}
WORKING: dict[str, dict[str, Any]] = {
    "session": {"pooler": "session"},
    "ignoring": {"pooler": "session"},
    "transaction": {"pooler": "transaction"},
    "forgetful": {"pooler": "transaction", "prepared_statements": False},
}


@pytest.fixture(scope="module")
def pooled() -> Iterator[Pooled]:
    with running_pgbouncers(POOLERS) as running:
        yield running


@pytest.fixture
async def name(pooled: Pooled) -> str:
    """An empty database for this test."""
    database_name = f"test_{uuid4().hex}"
    async with connected(pooled.server) as admin:
        await admin.execute(f"CREATE DATABASE {database_name}")
    return database_name


@pytest.mark.parametrize("mode", WORKING)
async def test_the_service_works_through_a_pooler(mode: str, pooled: Pooled, name: str) -> None:
    url = pooled.url(mode, name)
    async with (
        open_store(url, pool_size=4, **WORKING[mode]) as one,
        open_store(url, pool_size=4, **WORKING[mode]) as two,
    ):
        notes = await asyncio.gather(*(add(each) for each in (one, two) * 20))
        assert await asyncio.gather(*(each.get(note) for note in notes for each in (one, two))) == [TEXT] * 80
        await asyncio.gather(*(each.replace(notes[:2], "left") for each in (one, two)))
        assert (await one.get(notes[0]), await two.count()) == ("left", 40)


@pytest.mark.parametrize("mode", WORKING)
async def test_migrations_release_their_lock_and_the_next_release_applies_its_own(
    mode: str, pooled: Pooled, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start() -> None:
        async with open_store(pooled.url(mode, name), pool_size=2, **WORKING[mode]):
            pass

    await asyncio.gather(start(), start(), start())
    async with connected(pooled.server) as admin:
        assert await admin.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
    shutil.copytree(store.CONFIG.migrations, tmp_path / "migrations")
    (tmp_path / "migrations" / "0002_next.sql").write_text("CREATE TABLE next (a integer);")
    monkeypatch.setattr(store, "CONFIG", replace(store.CONFIG, migrations=tmp_path / "migrations"))
    await asyncio.gather(start(), start(), start())
    async with connected(pooled.server.rpartition("/")[0] + f"/{name}") as own:
        assert await own.fetchval("SELECT count(*) FROM schema_migrations") == 2


async def test_startup_waits_for_a_release_that_holds_a_session_lock(postgres_url: str) -> None:
    """Earlier releases did: while one of them migrates, this one must wait."""
    async with connected(postgres_url) as earlier:
        await earlier.execute(f"SELECT pg_advisory_lock({LOCK})")
        notes_store = NotesStore(postgres_url, limits=Limits(), wait_seconds=0)
        opening = asyncio.create_task(notes_store.open())
        while not await earlier.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            await asyncio.sleep(0.01)
        await earlier.execute(
            "CREATE TABLE schema_migrations (number integer PRIMARY KEY, name text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
        await earlier.execute((store.CONFIG.migrations / "0001_notes.sql").read_text())
        await earlier.execute("INSERT INTO schema_migrations VALUES (1, 'notes')")
        await earlier.execute(f"SELECT pg_advisory_unlock({LOCK})")
        await opening
        await add(notes_store)
        await notes_store.close()


async def test_with_session_pooling_the_configured_timeouts_apply(pooled: Pooled, name: str) -> None:
    async with open_store(
        f"{pooled.url('session', name)}?search_path=public", statement_seconds=0.2, pooler="session"
    ) as one:
        note = await add(one)
        async with connected(pooled.server.rpartition("/")[0] + f"/{name}") as other, other.transaction():
            await other.execute("LOCK TABLE notes")
            with pytest.raises(StoreUnavailable, match="statement timeout"):
                await one.get(note)


async def test_with_transaction_pooling_timeouts_missing_on_the_role_are_logged(
    pooled: Pooled, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(
        pooled.url("transaction", name), statement_seconds=0.2, seconds=1, pooler="transaction"
    ) as one:
        logged = " ".join(record.message for record in caplog.records if "pooler drops" in record.message)
        assert re.findall(r"ALTER ROLE test SET (\w+ = \S+)", logged) == [
            "statement_timeout = '0.2s'",
            "lock_timeout = '1s'",
            "idle_in_transaction_session_timeout = '1s'",
        ]
        note = await add(one)
        async with connected(pooled.server.rpartition("/")[0] + f"/{name}") as other, other.transaction():
            await other.execute("LOCK TABLE notes")
            with pytest.raises(StoreUnavailable, match="operation in time"):  # only the service has a timeout
                await one.get(note)
        assert await one.get(note) == TEXT


async def test_with_transaction_pooling_timeouts_of_the_role_apply(
    pooled: Pooled, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(statement_seconds=0.2, lock_seconds=0.1, seconds=30, pooler="transaction")
    async with connected(pooled.server) as admin:
        for setting, value in limits.session.items():
            await admin.execute(f"ALTER ROLE test IN DATABASE {name} SET {setting} = {value}")
    one = NotesStore(pooled.url("transaction", name), limits=limits, wait_seconds=0)
    await one.open()
    assert [record.message for record in caplog.records if "ALTER ROLE" in record.message] == []
    note = await add(one)
    async with connected(pooled.server.rpartition("/")[0] + f"/{name}") as other, other.transaction():
        await other.execute("LOCK TABLE notes")
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            await one.get(note)
    await one.close()


@pytest.mark.parametrize(
    ("mode", "query", "limits", "expected"),
    [
        ("session", "", {}, "unsupported startup parameter.* This is a pooler: set NOTES_DATABASE_POOLER"),
        ("transaction", "", {}, "unsupported startup parameter.* This is a pooler: set NOTES_DATABASE_POOLER"),
        ("ignoring", "", {}, "lack the statement_timeout, lock_timeout, .* set NOTES_DATABASE_POOLER to its mode"),
        ("statement", "", {"pooler": "session"}, "statement mode.* Set its pool_mode"),
        ("statement", "", {"pooler": "transaction"}, "statement mode.* Set its pool_mode"),
        ("forgetful", "", {"pooler": "session"}, "set NOTES_DATABASE_POOLER=transaction"),
        ("transaction", "", {"pooler": "session"}, "is in transaction mode.* Set it to transaction"),
        ("forgetful", "", {"pooler": "transaction"}, "NOTES_DATABASE_PREPARED_STATEMENTS=false or .*max_prepared"),
        (
            "transaction",
            "?search_path=a",
            {"pooler": "transaction"},
            "does not support search_path in the URL.* ALTER ROLE",
        ),
        (
            "session",
            "?options=-c%20work_mem=5MB",
            {"pooler": "session"},
            "does not support options in the URL.* ALTER ROLE",
        ),
    ],
)
async def test_an_unsupported_pooler_configuration_fails_startup(
    mode: str, query: str, limits: dict[str, Any], expected: str, pooled: Pooled, name: str
) -> None:
    url = pooled.url(mode, name) + query
    with pytest.raises(StoreUnavailable, match=expected):
        await NotesStore(url, limits=Limits(**limits), wait_seconds=300).open()


async def test_a_prepared_statement_lost_by_a_pooler_is_not_an_internal_error(
    pooled: Pooled, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While other clients use the pooler, the check at startup may miss it."""

    async def verify_prepared_statements(*_: object, **__: object) -> None: ...

    monkeypatch.setattr(database, "verify_prepared_statements", verify_prepared_statements)
    url = pooled.url("forgetful", name)
    async with (
        open_store(url, pool_size=1, pooler="transaction") as notes,
        connected(url) as other,
    ):
        await notes.get(uuid4())  # prepared on the server connection that PgBouncer assigns next: the last one used
        async with other.transaction():
            with pytest.raises(StoreUnavailable, match="NOTES_DATABASE_PREPARED_STATEMENTS=false"):
                await notes.get(uuid4())


async def test_a_database_unknown_to_the_pooler_is_reported(pooled: Pooled) -> None:
    with pytest.raises(StoreUnavailable, match=r"does not exist.*NOTES_DATABASE_URL"):
        await NotesStore(
            pooled.url("transaction", "nowhere"), limits=Limits(pooler="transaction"), wait_seconds=300
        ).open()
