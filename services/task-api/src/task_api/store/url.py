"""Creates the store that a URL names."""

from __future__ import annotations

from pathlib import Path

from chassis.postgres import url as postgres_url
from chassis.postgres.database import Limits
from task_api.store.memory import MemoryStore
from task_api.store.postgres import PostgresStore
from task_api.store.protocol import Store
from task_api.store.sqlite import SQLiteStore


def check_url(url: str) -> None:
    """Raises ValueError with a message that says what is allowed. The URL is not in it: it may contain a password."""
    parts = postgres_url.split(url.strip())
    match parts.scheme:
        case "memory":
            return
        case "sqlite":
            if parts.netloc or not parts.path.strip("/"):
                raise ValueError(
                    "a SQLite URL has three slashes before a relative path and four before an absolute one"
                )
        case scheme if scheme in postgres_url.SCHEMES:
            postgres_url.parse(url)
        case _:
            raise ValueError("the URL must begin with memory://, sqlite:/// or postgresql://")


def from_url(url: str, *, limits: Limits | None = None, wait_seconds: float = 0) -> Store:
    """The store that `url` names, not yet opened. Raises ValueError for a URL that `check_url` rejects."""
    limits = limits or Limits()
    check_url(url)
    parts = postgres_url.split(url.strip())
    match parts.scheme:
        case "memory":
            return MemoryStore()
        case "sqlite":
            path = Path(parts.path[1:])  # sqlite:///a/b is a/b, sqlite:////a/b is /a/b
            return SQLiteStore(path, queue_size=limits.queue_size)
        case _:
            return PostgresStore(url, limits=limits, wait_seconds=wait_seconds)
