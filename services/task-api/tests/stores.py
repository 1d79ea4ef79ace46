"""A PostgreSQL store for a test, and the schema of an earlier release."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from chassis.postgres.schema import migrate
from chassis.postgres.url import parse
from task_api.store import Limits, migrations
from task_api.store.postgres import MIGRATION_LOCK, PostgresStore


@contextlib.asynccontextmanager
async def open_store(url: str, **limits: Any) -> AsyncIterator[PostgresStore]:
    """An open store, closed at the end of the block."""
    store = PostgresStore(url, limits=Limits(**limits), wait_seconds=0)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def migrate_up_to(url: str, number: int) -> None:
    """Applies the migrations up to this number."""
    with tempfile.TemporaryDirectory() as folder:
        for file in (migrations.FOLDER / "postgres").glob("*.sql"):
            if int(file.name.partition("_")[0]) <= number:
                shutil.copy(file, folder)
        await migrate(parse(url), Path(folder), lock=MIGRATION_LOCK, setting="TASKS_DATABASE_URL", pooler="none")
