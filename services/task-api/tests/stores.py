"""A PostgreSQL store for a test."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from task_api.store import Limits
from task_api.store.postgres import PostgresStore


@contextlib.asynccontextmanager
async def open_store(url: str, **limits: Any) -> AsyncIterator[PostgresStore]:
    """An open store, closed at the end of the block."""
    store = PostgresStore(url, limits=Limits(**limits), wait_seconds=0)
    await store.open()
    try:
        yield store
    finally:
        await store.close()
