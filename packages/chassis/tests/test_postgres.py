"""PostgreSQL is missing, starts late, rejects connections, or closes them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from urllib.parse import urlsplit, urlunsplit

import pytest
from databases import connected
from note_stores import open_store
from notes.service import Settings
from notes.store import NotesStore

from chassis.postgres import database
from chassis.postgres.database import Limits
from chassis.storage import StoreUnavailable

DEADLINE_SECONDS = 30


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def test_an_unreachable_server_is_named_without_the_password() -> None:
    port = _free_port()
    url = f"postgresql://me:hunter2@127.0.0.1:{port}/notes"
    store = NotesStore(url, limits=Limits(pool_size=1), wait_seconds=0)
    with pytest.raises(StoreUnavailable) as error:
        await store.open()
    assert f"127.0.0.1:{port}/notes" in str(error.value)
    assert "hunter2" not in str(error.value)


async def test_startup_waits_for_the_server_indefinitely_and_logs_it_occasionally(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CONNECT_RETRY_SECONDS", 0)
    attempts: asyncio.Queue[None] = asyncio.Queue()

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await attempts.put(None)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("NOTES_DATABASE_URL", f"postgresql://me:hunter2@127.0.0.1:{port}/notes")
    monkeypatch.setenv("NOTES_DATABASE_WAIT_SECONDS", "inf")
    settings = Settings()
    store = NotesStore(
        settings.database_url.get_secret_value(), limits=settings.limits, wait_seconds=settings.database_wait_seconds
    )
    async with server:
        opening = asyncio.create_task(store.open())
        for _ in range(50):
            await asyncio.wait_for(attempts.get(), DEADLINE_SECONDS)
        assert not opening.done()
        opening.cancel()
        await asyncio.wait([opening])
    logged = [record.getMessage() for record in caplog.records if "is not available yet" in record.getMessage()]
    assert 1 <= len(logged) < 5
    assert logged[0].endswith("Is it running, and does NOTES_DATABASE_URL name the right host and port?")


async def test_startup_waits_for_a_server_that_starts_late(postgres_url: str) -> None:
    real = urlsplit(postgres_url)
    port = _free_port()
    late = NotesStore(
        urlunsplit(real._replace(netloc=f"{real.username}:{real.password}@127.0.0.1:{port}")),
        limits=Limits(pool_size=1),
        wait_seconds=30,
    )
    opening = asyncio.create_task(late.open())
    await asyncio.sleep(0)  # the first attempt fails

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(real.hostname, real.port)
        await asyncio.gather(_pump(reader, to_server), _pump(from_server, writer))

    proxy = await asyncio.start_server(forward, "127.0.0.1", port)
    try:
        await opening
        await late.ping()
    finally:
        await late.close()
        proxy.close()
        await proxy.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
    await writer.wait_closed()


async def test_a_role_that_may_not_log_in_fails_startup_immediately(postgres_url: str) -> None:
    real = urlsplit(postgres_url)
    url = urlunsplit(real._replace(netloc=f"stranger:hunter2@{real.hostname}:{real.port}"))
    async with connected(postgres_url) as admin:
        await admin.execute("CREATE ROLE stranger NOLOGIN")
        try:
            with pytest.raises(StoreUnavailable, match=r"cannot be used: .*NOTES_DATABASE_URL") as error:
                await NotesStore(url, limits=Limits(pool_size=1), wait_seconds=60).open()
            assert "hunter2" not in str(error.value)
        finally:
            await admin.execute("DROP ROLE stranger")


async def test_connections_terminated_by_the_server_are_replaced(postgres_url: str) -> None:
    async with open_store(postgres_url, pool_size=1) as store, connected(postgres_url) as admin:
        for _ in range(20):  # when asyncpg detects it varies
            await store.ping()
            cut = await admin.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert cut >= 1
            async with asyncio.timeout(30):
                while True:
                    with contextlib.suppress(StoreUnavailable):  # a request on a closed connection may fail
                        await store.ping()
                        break


async def test_a_request_is_one_round_trip(postgres_url: str) -> None:
    """asyncpg's own pool would add a second one when it releases a connection."""
    async with open_store(postgres_url, pool_size=1) as store, connected(postgres_url) as admin:
        await store.count()
        last = await admin.fetch(
            "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert [query for (query,) in last if "count(*)" in query]
