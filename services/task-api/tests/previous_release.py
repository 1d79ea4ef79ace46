"""The service as the previous release: before migration 0008, with the former name of the table that it renames.

python previous_release.py serve
"""

from __future__ import annotations

import functools
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import asyncpg

from chassis.migrations import Migration, read_migrations
from chassis.postgres import schema
from task_api.__main__ import main
from task_api.store import sqlite

LAST_MIGRATION = 7


def former_name(statement: str) -> str:
    return statement.replace("idempotency_records", "answers")


def known_migrations(folder: Path) -> list[Migration]:
    return [migration for migration in read_migrations(folder) if migration.number <= LAST_MIGRATION]


def with_former_name(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a connection whose first argument is a statement."""

    def call(connection: object, statement: str, *arguments: Any, **options: Any) -> Any:
        return method(connection, former_name(statement), *arguments, **options)

    return call


class SqliteConnection(sqlite3.Connection):
    execute = with_former_name(sqlite3.Connection.execute)


if __name__ == "__main__":
    for name in ("execute", "executemany", "fetch", "fetchmany", "fetchrow", "fetchval"):
        method = getattr(asyncpg.Connection, name)
        patch.object(asyncpg.Connection, name, with_former_name(method)).start()
    patch.object(sqlite3, "connect", functools.partial(sqlite3.connect, factory=SqliteConnection)).start()
    for module in (schema, sqlite):
        patch.object(module, "read_migrations", known_migrations).start()
    sys.exit(main())
