"""Which storage a URL means."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from chassis.postgres.database import Limits
from task_api.store.memory import MemoryStore
from task_api.store.postgres import PostgresStore
from task_api.store.protocol import Store
from task_api.store.sqlite import SQLiteStore

POSTGRES = "postgresql://user:password@host:port/name, / @ ? # and % in the password as %2F %40 %3F %23 and %25"
HOST = re.compile(r"(\[[^\]]+\]|[^:\[\]]+)(:\d{1,5})?")


def check_url(url: str) -> None:
    """Raises ValueError with a sentence that says what is allowed. The URL is not repeated: it may hold a password."""
    try:
        parts = urlsplit(url)
    except ValueError:  # which repeats it
        raise ValueError(f"this cannot be read as a URL; one of PostgreSQL is {POSTGRES}") from None
    match parts.scheme:
        case "memory":
            return
        case "sqlite":
            if parts.netloc or not parts.path.strip("/"):
                raise ValueError(
                    "a SQLite URL has three slashes before a relative path and four before an absolute one"
                )
        case "postgresql" | "postgres":
            hosts = parts.netloc.rpartition("@")[2]  # of which asyncpg takes several, with commas between
            if not hosts and "host=" not in parts.query:
                raise ValueError(f"a PostgreSQL URL names a host: {POSTGRES}")
            # An @ so late is that of the password's end, which had something in it that ends a host.
            is_cut = "@" in parts.path + parts.query + parts.fragment
            if is_cut or (hosts and not all(HOST.fullmatch(host) for host in hosts.split(","))):
                raise ValueError(f"the host or its port is none; a PostgreSQL URL is {POSTGRES}")
        case _:
            raise ValueError("the URL must begin with memory://, sqlite:/// or postgresql://")


def from_url(url: str, *, limits: Limits | None = None, wait_seconds: float = 0) -> Store:
    """The store that `url` names, not yet opened. Raises ValueError for a URL that `check_url` refuses."""
    limits = limits or Limits()
    check_url(url)
    parts = urlsplit(url)
    match parts.scheme:
        case "memory":
            return MemoryStore()
        case "sqlite":
            path = Path(parts.path[1:])  # sqlite:///a/b is a/b, sqlite:////a/b is /a/b
            return SQLiteStore(path, queue_size=limits.queue_size)
        case _:
            return PostgresStore(url, limits=limits, wait_seconds=wait_seconds)
