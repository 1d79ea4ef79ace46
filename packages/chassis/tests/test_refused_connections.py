"""PostgreSQL rejects connections, or those without TLS: each rejection fails immediately with its message."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from databases import connected, running_postgres
from notes.store import NotesStore
from tls import Authority

from chassis.postgres.database import Limits
from chassis.storage import StoreUnavailable

DEADLINE_SECONDS = 30

HBA = """
local all all trust
host all test all trust
hostnossl all tls_only all reject
hostssl all tls_only all scram-sha-256
hostssl all by_certificate all cert
host all app,nologin,limited all scram-sha-256
"""
ROLES = """
CREATE ROLE tls_only LOGIN PASSWORD 'x'; CREATE ROLE by_certificate LOGIN; CREATE ROLE app LOGIN PASSWORD 'x';
CREATE ROLE nologin PASSWORD 'x'; CREATE ROLE limited LOGIN CONNECTION LIMIT 0 PASSWORD 'x'; CREATE ROLE unlisted LOGIN;
REVOKE CONNECT ON DATABASE closed FROM PUBLIC;
CREATE SCHEMA AUTHORIZATION tls_only; CREATE SCHEMA AUTHORIZATION by_certificate;
"""


@dataclass(frozen=True)
class Server:
    admin: str
    authority: Authority

    @property
    def port(self) -> int | None:
        return urlsplit(self.admin).port

    @property
    def database(self) -> str:
        return urlsplit(self.admin).path

    def url(self, user: str, query: str = "", *, host: str = "localhost", database: str | None = None) -> str:
        return f"postgresql://{user}:x@{host}:{self.port}{database or self.database}?{query}"

    async def write_file(self, file: str, text: str) -> None:
        """Writes a file to the data directory, readable only by the server."""
        async with connected(self.admin) as admin:
            folder = await admin.fetchval("SHOW data_directory")
            await admin.execute("CREATE TEMP TABLE lines (number serial, line text)")
            await admin.copy_records_to_table(
                "lines", records=[(line,) for line in text.splitlines()], columns=["line"]
            )
            await admin.execute(
                f"COPY (SELECT line FROM lines ORDER BY number) TO PROGRAM 'umask 077; cat > {folder}/{file}'"
            )

    async def use_certificate(self, certificate: tuple[Path, Path]) -> None:
        """Uses this certificate for new connections."""
        for name, file in zip(("server.crt", "server.key"), certificate, strict=True):
            await self.write_file(name, file.read_text())
        await self.reload()

    async def reload(self) -> None:
        async with connected(self.admin) as admin:
            before = await admin.fetchval("SELECT pg_conf_load_time()")
            await admin.execute("SELECT pg_reload_conf()")
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                async with connected(self.admin) as admin:
                    if await admin.fetchval("SELECT pg_conf_load_time() > $1", before):
                        return
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def running_server() -> Iterator[str]:
    """A dedicated server, since its settings are changed."""
    with running_postgres() as url:
        yield url


@pytest.fixture(scope="module")
async def server(running_server: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    server = Server(running_server, Authority(tmp_path_factory.mktemp("ca"), "ca"))
    async with connected(server.admin) as admin:
        await admin.execute("CREATE DATABASE closed")
        await admin.execute(ROLES)
        hba = Path(await admin.fetchval("SHOW hba_file")).name
        for setting in (
            "ssl = on",
            "ssl_cert_file = 'server.crt'",
            "ssl_key_file = 'server.key'",
            "ssl_ca_file = 'ca.crt'",
        ):
            await admin.execute(f"ALTER SYSTEM SET {setting}")
    await server.write_file("ca.crt", server.authority.file.read_text())
    await server.write_file(hba, HBA)
    await server.use_certificate(server.authority.sign("localhost"))
    yield server
    # Closing a TLS connection takes a handshake, during which it is still open. Closing the loop before that fails, and
    # so do the tests after it (uvloop 0.23).
    async with asyncio.timeout(DEADLINE_SECONDS):
        while any(type(each).__name__ == "TCPTransport" and not each.is_closing() for each in gc.get_objects()):
            await asyncio.sleep(0.01)


async def startup_error(url: str, *, wait_seconds: float = 10 * DEADLINE_SECONDS) -> str:
    """The error of a failed start, which does not wait if a retry cannot help."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        with pytest.raises(StoreUnavailable) as error:
            await NotesStore(url, limits=Limits(), wait_seconds=wait_seconds).open()
    return str(error.value)


@pytest.mark.parametrize(
    ("user", "query", "options", "expected"),
    [
        ("app:wrong", "", {}, "password authentication failed.* Check user and password in NOTES_DATABASE_URL"),
        ("nologin", "", {}, "not permitted to log in.* the role needs LOGIN"),
        ("unlisted", "", {}, "no pg_hba.conf entry .* The server's pg_hba.conf controls"),
        ("tls_only", "sslmode=disable", {}, "pg_hba.conf rejects.* sslmode, sslcert and sslkey in NOTES_DATABASE_URL"),
        ("by_certificate", "sslmode=require", {}, "requires a valid client certificate.* sslcert and sslkey"),
        ("app", "", {"database": "/nowhere"}, "does not exist. Create it, or fix its name in NOTES_DATABASE_URL"),
        ("app", "", {"database": "/closed"}, "permission denied for database.* GRANT CONNECT ON DATABASE"),
        ("app", "", {}, "permission denied for schema public.*GRANT USAGE, CREATE ON SCHEMA.*command `migrate`"),
        ("app", "search_path=nowhere", {}, "has no privileges on any schema of its search_path, nowhere.* ALTER ROLE"),
        ("app", "options=-c%20nothing=1", {}, "nothing.* Fix it in NOTES_DATABASE_URL or on the server"),
        ("tls_only", "sslmode=verify-full", {}, "root.crt.* sslrootcert"),
        (
            "tls_only",
            "sslmode=verify-full&sslrootcert=system",
            {},
            "sslrootcert in NOTES_DATABASE_URL must name .* CA",
        ),
        ("tls_only", "sslmode=require&sslrootcert={other}", {}, "sslrootcert in NOTES_DATABASE_URL must name .* CA"),
        ("tls_only", "sslmode=verify-full&sslrootcert={ca}", {"host": "127.0.0.1"}, "Use the host name .* certificate"),
    ],
)
async def test_a_rejected_connection_fails_immediately_with_the_next_step(
    user: str, query: str, options: dict[str, str], expected: str, server: Server, tmp_path: Path
) -> None:
    query = query.format(ca=server.authority.file, other=Authority(tmp_path, "other").file)
    url = server.url(user, query, **options)
    if ":" in user:
        url = url.replace(":x@", "@")
    message = await startup_error(url)
    assert re.search(expected, message), message
    assert message.startswith(
        ("PostgreSQL at localhost:", "PostgreSQL at 127.0.0.1:", "The user in NOTES_DATABASE_URL", "no schema")
    )


async def test_an_expired_certificate_fails_immediately(server: Server) -> None:
    await server.use_certificate(server.authority.sign("localhost", days=-1))
    try:
        message = await startup_error(
            server.url("tls_only", f"sslmode=verify-full&sslrootcert={server.authority.file}")
        )
    finally:
        await server.use_certificate(server.authority.sign("localhost"))
    assert re.search(r"expired.*\. Renew the server's certificate", message), message


async def test_a_server_without_tls_fails_immediately(postgres_url: str) -> None:
    message = await startup_error(f"{postgres_url}&sslmode=require")
    assert "rejected SSL upgrade. Enable TLS on the server" in message


@pytest.mark.parametrize(
    ("user", "query", "expected"),
    [
        ("limited", "", "too many connections.* lower NOTES_DATABASE_POOL_SIZE, or raise the server's max_connections"),
        ("app", "target_session_attrs=standby", "Is there a primary.* target_session_attrs=read-write"),
    ],
)
async def test_a_transient_rejection_is_retried_and_then_reported(
    user: str, query: str, expected: str, server: Server
) -> None:
    message = await startup_error(server.url(user, query), wait_seconds=0)
    assert re.search(f"cannot be reached: .*{expected}", message), message


@pytest.mark.parametrize(
    ("user", "query", "host"),
    [
        ("tls_only", "", "localhost"),  # sslmode=prefer, the default, with a server that requires TLS
        ("tls_only", "sslmode=require&channel_binding=require", "localhost"),
        ("tls_only", "sslmode=verify-full&sslrootcert={ca}", "localhost"),
        ("by_certificate", "sslmode=verify-ca&sslrootcert={ca}&sslcert={certificate}&sslkey={key}", "127.0.0.1"),
    ],
)
async def test_the_service_connects_as_documented_in_extend_md(
    user: str, query: str, host: str, server: Server
) -> None:
    certificate, key = server.authority.sign("by_certificate")
    query = query.format(ca=server.authority.file, certificate=certificate, key=key)
    store = NotesStore(server.url(user, f"{query}&search_path={user}", host=host), limits=Limits(), wait_seconds=0)
    await store.open()
    await store.close()
