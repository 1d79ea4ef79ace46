"""Parsing PostgreSQL URLs as providers issue them, for asyncpg.

asyncpg sends unknown parameters to the server as run-time parameters, so that connecting fails with a misleading
message. Exceptions of asyncpg and urllib may quote the URL, which contains the password: none raised here does.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

Pooler = Literal["none", "session", "transaction"]
"""The mode of the pooler in front of PostgreSQL (PgBouncer's pool_mode), if there is one."""

FORMAT = (
    "postgresql://user:password@host:port/name, with @ : / ? # [ ] and % in the password percent-encoded "
    "as %40 %3A %2F %3F %23 %5B %5D and %25"
)
SCHEMES = ("postgresql", "postgres")
HOST = re.compile(r"(\[[^\]]+\]|[^:\[\]]+)(?::([0-9]*))?")

# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
SESSION = {"application_name", "options", "search_path"}
"""Run-time parameters, which are sent to the server."""
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
"""libpq parameters that asyncpg lacks and that do not affect the service: its own deadlines apply."""
TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
CHOICES = {
    "gssencmode": ("disable", "prefer"),  # not require: it would be ignored, and the connection unencrypted
    "ssl_max_protocol_version": TLS_VERSIONS,
    "ssl_min_protocol_version": TLS_VERSIONS,
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}
POOL_SIZE = "for the number of connections, set ..._DATABASE_POOL_SIZE"
POOLER = "for a pooler, set ..._DATABASE_POOLER and ..._DATABASE_PREPARED_STATEMENTS"
SCHEMA = "for the schema, use search_path=NAME"
TLS = "for TLS, use sslmode=require, or sslmode=verify-full with sslrootcert=FILE"
REPLACEMENTS = {
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
"""The equivalents of other drivers' parameters (Prisma, pgx, JDBC)."""


@dataclass(frozen=True)
class Address:
    """Where the server is, and how to connect to it."""

    dsn: str = field(repr=False)
    """For asyncpg, with only those parameters that it knows."""
    where: str
    """Hosts and database, for messages."""
    session: dict[str, str]
    """The run-time parameters in the URL."""
    ignored: tuple[str, ...]
    """The names of parameters that are ignored."""
    tls: ssl.SSLContext | None = field(repr=False)
    """If the dsn cannot express it."""


def split(url: str) -> SplitResult:
    """Like urlsplit, whose ValueError quotes the URL, which may contain a password."""
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError(f"not a valid URL; the format is {FORMAT}") from None


def parse(url: str) -> Address:
    """Raises ValueError with what is allowed, quoting nothing that may be part of the password."""
    url = url.strip()  # files and Secrets often end with a line feed
    if re.search(r"[\s\x00-\x1f]|%00", url):
        raise ValueError(f"a URL must not contain whitespace or control characters; the format is {FORMAT}")
    parts = split(url)
    if parts.scheme not in SCHEMES:
        raise ValueError("the URL must begin with postgresql://")
    # An @ this late ends the password, which contains a character that ends a host. With two of them asyncpg ends the
    # password at the first, and urllib at the last.
    if "@" in parts.path + parts.query + parts.fragment or parts.netloc.count("@") > 1 or parts.fragment:
        raise ValueError(f"a character in it must be percent-encoded; the format is {FORMAT}")
    parameters = _parameters(parts.query)
    netloc = parts.netloc.rpartition("@")[2]
    if bool(netloc) == ("host" in parameters):
        raise ValueError(f"the URL must name the host exactly once: {FORMAT}")
    _check_hosts(netloc or parameters["host"], parameters.get("port"))
    _check_tls(parameters)
    database = parameters.get("dbname") or unquote(parts.path.removeprefix("/"))
    is_system = parameters.get("sslrootcert") == "system"
    for_asyncpg = {
        name: value
        for name, value in parameters.items()
        if name in SUPPORTED - SESSION and not (is_system and name.startswith("ssl") and name != "sslnegotiation")
    }
    return Address(
        dsn=parts._replace(query=urlencode(for_asyncpg, quote_via=quote)).geturl(),
        where=f"{netloc or parameters['host']}/{database}",
        session={name: value for name, value in parameters.items() if name in SESSION},
        ignored=tuple(sorted(parameters.keys() & IGNORED)),
        tls=_system_tls(parameters) if is_system else None,
    )


def _parameters(query: str) -> dict[str, str]:
    """As libpq reads them: a + is a plus sign, and the last of several with the same name wins."""
    fields = [part.partition("=") for part in query.split("&") if part]
    if not all(sign for _, sign, _ in fields):
        raise ValueError("parameters in the query of the URL must be NAME=VALUE")
    parameters = {unquote(name): unquote(value) for name, _, value in fields if value}
    if unknown := sorted(parameters.keys() - SUPPORTED - IGNORED):
        hints = "".join(dict.fromkeys(f"; {REPLACEMENTS[name]}" for name in unknown if name in REPLACEMENTS))
        raise ValueError(f"remove unsupported parameters from its query: {', '.join(unknown)}{hints}")
    for name in parameters.keys() & CHOICES.keys():
        if parameters[name] not in CHOICES[name]:
            raise ValueError(f"{name} in its query must be one of {', '.join(CHOICES[name])}")
    return parameters


def _check_hosts(hosts: str, ports: str | None) -> None:
    for host in hosts.split(","):  # asyncpg supports several
        if unquote(host).startswith("/"):  # the directory of a Unix socket
            continue
        match = HOST.fullmatch(host)
        if match is None:
            raise ValueError(f"invalid host or port; the format is {FORMAT}")
        try:
            unquote(match[1]).encode("idna")
        except UnicodeError:
            raise ValueError("invalid host name: each label between dots must have 1 to 63 characters") from None
        _check_port(match[2] or "5432")
    for port in ports.split(",") if ports else []:
        _check_port(port)
    if ports and ports.count(",") not in (0, hosts.count(",")):
        raise ValueError("its query must have as many ports as hosts, or one for all")


def _check_port(port: str) -> None:
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError("invalid port: it must be a number from 1 to 65535")


def _check_tls(parameters: dict[str, str]) -> None:
    """Reads the files once: while connecting, a missing file looks like a missing server."""
    is_system = parameters.get("sslrootcert") == "system"
    if is_system and parameters.get("sslmode", "verify-full") != "verify-full":
        raise ValueError("sslrootcert=system in its query requires sslmode=verify-full")
    for name in ("sslcrl", "ssl_min_protocol_version", "ssl_max_protocol_version"):
        if is_system and name in parameters:
            raise ValueError(f"sslrootcert=system in its query cannot be combined with {name}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name in ("sslrootcert", "sslcrl", "sslcert"):
        if name not in parameters or (name == "sslrootcert" and is_system):
            continue
        try:
            if name == "sslcert":
                _load_certificate(context, parameters)
            else:
                context.load_verify_locations(parameters[name])
        except (OSError, ValueError) as error:
            which = "sslcert or sslkey" if name == "sslcert" else name
            raise ValueError(
                f"cannot load the file of {which} in its query: {getattr(error, 'strerror', None) or 'not PEM'}"
            ) from None


def _load_certificate(context: ssl.SSLContext, parameters: dict[str, str]) -> None:
    context.load_cert_chain(parameters["sslcert"], parameters.get("sslkey"), lambda: parameters.get("sslpassword", ""))


def _system_tls(parameters: dict[str, str]) -> ssl.SSLContext:
    """asyncpg would look for a file named `system`."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])
    if "sslcert" in parameters:
        _load_certificate(context, parameters)
    return context
