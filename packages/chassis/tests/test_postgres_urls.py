"""PostgreSQL URLs as issued by providers, and with typical mistakes of URLs written by hand."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from databases import connected
from note_stores import add, open_store
from notes.service import Settings
from notes.store import NotesStore
from pydantic import SecretStr, ValidationError
from running import NOTES
from tls import Authority

from chassis.postgres.database import Limits
from chassis.postgres.url import CHOICES, IGNORED, SUPPORTED, parse
from chassis.storage import StoreUnavailable

UNUSED_URL = "postgresql://me:hunter2@127.0.0.1:1/notes"

LIBPQ = {
    *("application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname"),
    *("fallback_application_name", "gssdelegation", "gssencmode", "gsslib", "host"),
    *("hostaddr", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval"),
    *("krbsrvname", "load_balance_hosts", "max_protocol_version", "min_protocol_version", "oauth_client_id"),
    *("oauth_client_secret", "oauth_issuer", "oauth_scope", "options", "passfile"),
    *("password", "port", "replication", "require_auth", "requirepeer"),
    *("scram_client_key", "scram_server_key", "service", "servicefile", "ssl_max_protocol_version"),
    *("ssl_min_protocol_version", "sslcert", "sslcertmode", "sslcompression", "sslcrl"),
    *("sslcrldir", "sslkey", "sslkeylogfile", "sslmode", "sslnegotiation"),
    *("sslpassword", "sslrootcert", "sslsni", "target_session_attrs", "tcp_user_timeout"),
    "user",
}
"""Of PostgreSQL 18: https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-PARAMKEYWORDS"""


def test_every_libpq_parameter_is_supported_ignored_or_rejected_by_name() -> None:
    assert IGNORED <= LIBPQ
    assert LIBPQ | {"search_path"} >= SUPPORTED
    for name in LIBPQ - SUPPORTED - IGNORED:
        with pytest.raises(ValueError, match=rf"unsupported parameters from its query: {name}$"):
            parse(f"{UNUSED_URL}?{name}=x")


@pytest.mark.parametrize(
    "query",
    [
        "sslmode=prefer&channel_binding=prefer",  # Neon, with require for both
        "connect_timeout=10&keepalives=1&keepalives_idle=30&gssencmode=disable&load_balance_hosts=random",
        "target_session_attrs=read-write&application_name=mine",
    ],
)
async def test_urls_as_issued_by_providers_are_accepted(
    query: str, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres_url.replace("postgresql://", "postgres://") + f"&{query}\n"
    with caplog.at_level(logging.INFO, "chassis"):
        async with open_store(url) as store:
            await store.ping()
    ignored = sorted(field.partition("=")[0] for field in query.split("&") if field.partition("=")[0] in IGNORED)
    messages = [record.message for record in caplog.records if "Ignoring" in record.message]
    assert messages == (
        [f"Ignoring parameters of the URL in NOTES_DATABASE_URL that asyncpg lacks: {', '.join(ignored)}"]
        * bool(ignored)
    )


async def test_session_parameters_of_the_url_apply(postgres_url: str) -> None:
    server, _, schema = postgres_url.partition("?search_path=")
    url = f"{server}?options={quote(f'-c search_path={schema}')}&application_name={schema}+1"
    async with open_store(url) as store, connected(postgres_url) as admin:
        await add(store)
        assert await admin.fetchval("SELECT count(*) FROM notes") == 1
        seen = "SELECT count(*) FROM pg_stat_activity WHERE application_name = current_schema() || '+1'"
        assert await admin.fetchval(seen) == 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("schema=public", "query: schema; for the schema, use search_path=NAME"),
        (
            "pgbouncer=true&connection_limit=5",
            "connection_limit, pgbouncer; for the number of .*POOL_SIZE; for a pooler, .*POOLER",
        ),
        ("pool_max_conns=5", "pool_max_conns; for the number of connections, set ..._DATABASE_POOL_SIZE"),
        ("ssl=true", "ssl; for TLS, use sslmode=require"),
        ("statement_timeout=5", "query: statement_timeout"),
        ("hunter2", "NAME=VALUE"),
        ("sslmode=on", "sslmode in its query must be one of disable, allow"),
        ("target_session_attrs=rw", "target_session_attrs in its query must be one of any, read-write"),
        ("gssencmode=require", "gssencmode in its query must be one of disable, prefer"),
        ("host=elsewhere", "must name the host exactly once"),
        ("port=0", "from 1 to 65535"),
        ("port=http", "from 1 to 65535"),
        ("port=5432,5433", "as many ports as hosts"),
        ("sslrootcert=/nowhere/ca.crt", "cannot load the file of sslrootcert in its query: No such file"),
        ("sslcert=/nowhere/me.crt", "cannot load the file of sslcert or sslkey in its query: No such file"),
        ("sslrootcert=system&sslmode=require", "requires sslmode=verify-full"),
        ("sslrootcert=system&ssl_min_protocol_version=TLSv1.3", "cannot be combined with ssl_min_protocol_version"),
    ],
)
def test_an_unsupported_query_is_reported_by_parameter(query: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as error:
        parse(f"{UNUSED_URL}?{query}")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://me:a@hunter2@127.0.0.1:1/notes", "%40"),
        ("postgresql://me:a@b:hunter2@127.0.0.1:1/notes", "%40"),  # asyncpg reads hunter2@127... as a port
        ("postgresql://me:12/hunter2@127.0.0.1:1/notes", "%2F"),
        ("postgresql://me:hunter2/12@127.0.0.1:1/notes", "%2F"),
        ("postgresql://me:a?hunter2@127.0.0.1:1/notes", "%3F"),
        ("postgresql://me:a#hunter2@127.0.0.1:1/notes", "%23"),
        ("postgresql://me:a[hunter2@127.0.0.1:1/notes", "%5B"),
        ("postgresql://me:hunter2@127.0.0.1:1/notes#x", "%23"),
        ("postgresql://me:hun ter2@127.0.0.1:1/notes", "whitespace"),
        ("postgresql://me:hunter2%00@127.0.0.1:1/notes", "control characters"),
        ("postgresql://me:hunter2@127.0.0.1:0/notes", "from 1 to 65535"),
        ("postgresql://me:hunter2@127.0.0.1:70000/notes", "from 1 to 65535"),
        ("postgresql://me:hunter2@127.0.0.1:http/notes", "host:port"),
        ("postgresql://me:hunter2@a..b/notes", "between dots"),
        (f"postgresql://me:hunter2@{'a' * 64}.b/notes", "between dots"),
        ("postgresql://me:hunter2@/notes", "must name the host"),
        ("postgresql+asyncpg://me:hunter2@127.0.0.1:1/notes", "must begin with postgresql://"),
    ],
)
@pytest.mark.parametrize("command", ["migrate", "openapi"])
def test_an_invalid_url_is_a_one_line_error_without_the_password(url: str, expected: str, command: str) -> None:
    line = NOTES.expect_error(command, NOTES_DATABASE_URL=url)
    assert line.startswith("NOTES_DATABASE_URL: ")
    assert expected in line
    assert "hunter2" not in line


def test_the_validation_error_of_an_invalid_url_omits_the_password() -> None:
    with pytest.raises(ValidationError) as error:
        Settings(database_url=SecretStr("postgresql://me:a@hunter2@host/notes"))
    assert "hunter2" not in str(error.value) + repr(error.value)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("postgresql://me:p:w@db.example:6432/notes", "db.example:6432/notes"),
        ("postgresql://me:p%40w%2F@db.example:/notes", "db.example:/notes"),
        ("postgresql://me@[::1]:5432,two/notes", "[::1]:5432,two/notes"),
        (
            "postgresql:///notes?host=/cloudsql/project:region:instance&user=me&password=p%40w",
            "/cloudsql/project:region:instance/notes",
        ),
        (
            "postgresql://me:pw@%2Fcloudsql%2Fproject%3Aregion%3Ainstance/notes",
            "%2Fcloudsql%2Fproject%3Aregion%3Ainstance/notes",
        ),
        ("postgresql://db?dbname=notes&port=6432&user=me%40tenant", "db/notes"),
        ("postgresql://db/my%20notes?sslmode=", "db/my notes"),
    ],
)
def test_urls_that_libpq_accepts_are_accepted(url: str, where: str) -> None:
    address = parse(url)
    assert address.where == where
    assert "p%40w" not in repr(address)


def test_the_choices_are_those_of_asyncpg() -> None:
    from asyncpg.connect_utils import SessionAttribute, SSLMode, SSLNegotiation

    assert {mode.name.replace("_", "-") for mode in SSLMode} == set(CHOICES["sslmode"])
    assert {attribute.value for attribute in SessionAttribute} == set(CHOICES["target_session_attrs"])
    assert {way.value for way in SSLNegotiation} == set(CHOICES["sslnegotiation"])


def test_the_systems_cas_are_used_if_the_url_says_so(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path, "ours").sign("me")
    tls = parse(f"{UNUSED_URL}?sslrootcert=system&sslcert={certificate}&sslkey={key}").tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)


async def test_a_host_that_is_a_directory_is_a_unix_socket(tmp_path: Path) -> None:
    store = NotesStore(f"postgresql://me:hunter2@/notes?host={tmp_path}", limits=Limits(), wait_seconds=0)
    with pytest.raises(StoreUnavailable, match=rf"PostgreSQL at {tmp_path}/notes cannot be reached"):
        await store.open()


async def test_a_percent_encoded_password_is_decoded(postgres_url: str) -> None:
    special_characters = "@:/?#[]%+ &="
    role = f"odd_{urlsplit(postgres_url).query[-12:]}"
    async with connected(postgres_url) as admin:
        await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{special_characters}'")
        try:
            host = urlsplit(postgres_url).netloc.rpartition("@")[2]
            url = urlsplit(postgres_url)._replace(netloc=f"{role}:{quote(special_characters, safe='')}@{host}").geturl()
            async with connected(parse(url).dsn) as db:
                assert await db.fetchval("SELECT current_user") == role
        finally:
            await admin.execute(f"DROP ROLE {role}")
