"""Migrations of SQLite."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
from migration_contract import Execute, MigrationContract, Start

from task_api.store import from_url, migrations


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of the migrations, which are the ones applied."""
    shutil.copytree(migrations.FOLDER, tmp_path / "migrations")
    monkeypatch.setattr(migrations, "FOLDER", tmp_path / "migrations")
    return tmp_path / "migrations/sqlite"


@pytest.fixture
def start(tmp_path: Path) -> Start:
    async def start() -> None:
        store = from_url(f"sqlite:///{tmp_path}/tasks.db")
        await store.open()
        await store.close()

    return start


@pytest.fixture
def execute(tmp_path: Path) -> Execute:
    async def execute(statement: str) -> list[tuple[object, ...]]:
        with contextlib.closing(sqlite3.connect(tmp_path / "tasks.db", isolation_level=None)) as db:
            return list(db.execute(statement))

    return execute


class TestSqlite(MigrationContract):
    first = "0001_tasks.sql"
    word = "title"
