"""A URL of PostgreSQL as providers hand it out, and what of it asyncpg can be given.

asyncpg sends each parameter that it does not know to the server as one of the session's settings, so that a connection
fails with a message about something else. Its and urllib's exceptions may quote the URL, of which a part is the
password: nothing here does.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

Pooler = Literal["none", "session", "transaction"]
"""What is between the service and PostgreSQL: nothing, or a pooler in this mode (PgBouncer's pool_mode)."""

FORM = (
    "postgresql://user:password@host:port/name, with @ : / ? # [ ] and % in the password percent-encoded, "
    "as %40 %3A %2F %3F %23 %5B %5D and %25"
)
SCHEMES = ("postgresql", "postgres")
HOST = re.compile(r"(\[[^\]]+\]|[^:\[\]]+)(?::([0-9]*))?")

# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
SESSION = {"application_name", "options", "search_path"}
"""Settings of the session, which the server is sent."""
SUPPORTED = SESSION | {
    *("dbname", "gsslib", "host", "krbsrvname", "passfile", "password", "port", "target_session_attrs", "user"),
    *("ssl_max_protocol_version", "ssl_min_protocol_version", "sslcert", "sslcrl", "sslkey", "sslmode"),
    *("sslnegotiation", "sslpassword", "sslrootcert"),
}
IGNORED = {
    *("channel_binding", "client_encoding", "connect_timeout", "fallback_application_name", "gssdelegation"),
    *("gssencmode", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "load_balance_hosts"),
    *("max_protocol_version", "min_protocol_version", "sslcompression", "sslsni", "tcp_user_timeout"),
}
"""libpq's own that asyncpg lacks and that change nothing of what the service can do: its own deadlines hold."""
TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
CHOICES = {
    "gssencmode": ("disable", "prefer"),  # and require, which would be ignored, too: the connection would be open
    "ssl_max_protocol_version": TLS_VERSIONS,
    "ssl_min_protocol_version": TLS_VERSIONS,
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}
POOL_SIZE = "the number of connections is the setting ..._DATABASE_POOL_SIZE"
POOLER = "a pooler is named by the settings ..._DATABASE_POOLER and ..._DATABASE_PREPARED_STATEMENTS"
SCHEMA = "the schema is search_path=NAME"
TLS = "TLS is sslmode=require, or sslmode=verify-full with sslrootcert=FILE"
INSTEAD = {
    "connection_limit": POOL_SIZE,
    "currentSchema": SCHEMA,
    "pgbouncer": POOLER,
    "pool_max_conns": POOL_SIZE,
    "pool_size": POOL_SIZE,
    "schema": SCHEMA,
    "ssl": TLS,
    "sslaccept": TLS,
    "statement_cache_size": POOLER,
}
"""What to write for the parameters of other drivers (Prisma, pgx, JDBC) that mean something here."""


@dataclass(frozen=True)
class Address:
    """Where PostgreSQL is, and how to connect to it."""

    dsn: str = field(repr=False)
    """For asyncpg, with no parameter but such as it knows."""
    where: str
    """Hosts and database, to print."""
    session: dict[str, str]
    """The settings of the session that the URL asks for."""
    ignored: tuple[str, ...]
    """The parameters that are not heeded."""
    tls: ssl.SSLContext | None = field(repr=False)
    """Where the dsn cannot say it."""


def split(url: str) -> SplitResult:
    """As urlsplit, whose ValueError repeats the URL: it may hold a password."""
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError(f"this cannot be read as a URL; one of PostgreSQL is {FORM}") from None


def parse(url: str) -> Address:
    """Raises ValueError with a sentence that says what is allowed, and repeats nothing that may be of the password."""
    url = url.strip()  # a file or a Secret ends with a line feed
    if re.search(r"[\s\x00-\x1f]|%00", url):
        raise ValueError(f"a URL has neither blanks nor control characters in it; one of PostgreSQL is {FORM}")
    parts = split(url)
    if parts.scheme not in SCHEMES:
        raise ValueError("the URL must begin with postgresql://")
    # An @ so late is that of the password's end, which had something in it that ends a host. With two of them asyncpg
    # takes the first for the password's end, and urllib the last.
    if "@" in parts.path + parts.query + parts.fragment or parts.netloc.count("@") > 1 or parts.fragment:
        raise ValueError(f"something in it has to be percent-encoded; a PostgreSQL URL is {FORM}")
    given = _parameters(parts.query)
    netloc = parts.netloc.rpartition("@")[2]
    if bool(netloc) == ("host" in given):
        raise ValueError(f"a PostgreSQL URL names a host, and once: {FORM}")
    _check_hosts(netloc or given["host"], given.get("port"))
    _check_tls(given)
    database = given.get("dbname") or unquote(parts.path.removeprefix("/"))
    is_system = given.get("sslrootcert") == "system"
    for_asyncpg = {
        name: value
        for name, value in given.items()
        if name in SUPPORTED - SESSION and not (is_system and name.startswith("ssl") and name != "sslnegotiation")
    }
    return Address(
        dsn=parts._replace(query=urlencode(for_asyncpg, quote_via=quote)).geturl(),
        where=f"{netloc or given['host']}/{database}",
        session={name: value for name, value in given.items() if name in SESSION},
        ignored=tuple(sorted(given.keys() & IGNORED)),
        tls=_system_tls(given) if is_system else None,
    )


def _parameters(query: str) -> dict[str, str]:
    """As libpq reads them: a + is a plus, and of two with one name the last holds."""
    fields = [part.partition("=") for part in query.split("&") if part]
    if not all(sign for _, sign, _ in fields):
        raise ValueError("a parameter in the query of a PostgreSQL URL is NAME=VALUE")
    given = {unquote(name): unquote(value) for name, _, value in fields if value}
    if unknown := sorted(given.keys() - SUPPORTED - IGNORED):
        instead = "".join(dict.fromkeys(f"; {INSTEAD[name]}" for name in unknown if name in INSTEAD))
        raise ValueError(f"remove from its query what this service cannot do: {', '.join(unknown)}{instead}")
    for name in given.keys() & CHOICES.keys():
        if given[name] not in CHOICES[name]:
            raise ValueError(f"{name} in its query is one of {', '.join(CHOICES[name])}")
    return given


def _check_hosts(hosts: str, ports: str | None) -> None:
    for host in hosts.split(","):  # asyncpg takes several
        if unquote(host).startswith("/"):  # the folder of a Unix socket
            continue
        found = HOST.fullmatch(host)
        if found is None:
            raise ValueError(f"the host or its port is none; a PostgreSQL URL is {FORM}")
        try:
            unquote(found[1]).encode("idna")
        except UnicodeError:
            raise ValueError("the host in it is no name: between two dots are 1 to 63 characters") from None
        _check_port(found[2] or "5432")
    for port in ports.split(",") if ports else []:
        _check_port(port)
    if ports and ports.count(",") not in (0, hosts.count(",")):
        raise ValueError("its query has as many ports as hosts, or one for all")


def _check_port(port: str) -> None:
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError("the port in it is none: it is a number from 1 to 65535")


def _check_tls(given: dict[str, str]) -> None:
    """Reads the files once: at a connection, a file that is missing looks like a server that is."""
    is_system = given.get("sslrootcert") == "system"
    if is_system and given.get("sslmode", "verify-full") != "verify-full":
        raise ValueError("sslrootcert=system in its query goes with sslmode=verify-full alone")
    for name in ("sslcrl", "ssl_min_protocol_version", "ssl_max_protocol_version"):
        if is_system and name in given:
            raise ValueError(f"sslrootcert=system in its query does not go with {name}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name in ("sslrootcert", "sslcrl", "sslcert"):
        if name not in given or (name == "sslrootcert" and is_system):
            continue
        try:
            if name == "sslcert":
                _load_certificate(context, given)
            else:
                context.load_verify_locations(given[name])
        except (OSError, ValueError) as error:
            which = "sslcert or sslkey" if name == "sslcert" else name
            raise ValueError(
                f"the file of {which} in its query cannot be used: {getattr(error, 'strerror', None) or 'no PEM'}"
            ) from None


def _load_certificate(context: ssl.SSLContext, given: dict[str, str]) -> None:
    context.load_cert_chain(given["sslcert"], given.get("sslkey"), lambda: given.get("sslpassword", ""))


def _system_tls(given: dict[str, str]) -> ssl.SSLContext:
    """asyncpg would look for a file of the name `system`."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])
    if "sslcert" in given:
        _load_certificate(context, given)
    return context
