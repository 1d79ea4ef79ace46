"""Open stores of notes, for tests."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

from notes.store import NotesStore
from proxy import Proxy

from chassis.postgres.database import Limits

TEXT = "Water the plants"


@contextlib.asynccontextmanager
async def open_store(url: str, **limits: Any) -> AsyncIterator[NotesStore]:
    """A store that is open until the end of the block."""
    store = NotesStore(url, limits=Limits(**limits), wait_seconds=0)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def behind_proxy(url: str, **limits: Any) -> AsyncIterator[tuple[NotesStore, Proxy]]:
    """The same, with a proxy between it and its database."""
    async with Proxy(url).running() as proxy, open_store(proxy.url, **limits) as store:
        yield store, proxy


async def add(store: NotesStore) -> UUID:
    """Adds a note with the text TEXT."""
    note_id = uuid4()
    await store.add(note_id, TEXT)
    return note_id
