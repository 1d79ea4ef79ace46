"""Notes in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from chassis.postgres.database import Database, DatabaseConfig, Limits, rows_by_key, transaction
from chassis.postgres.metrics import DatabaseMetrics

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

Note = tuple[UUID, str]

metrics = DatabaseMetrics("notes")

LOCK = 0x6E6F7465
CONFIG = DatabaseConfig("notes", "NOTES_DATABASE_URL", Path(__file__).parent / "migrations", LOCK, metrics)

GET = "SELECT id, text FROM notes WHERE id = $1"
GET_MANY = """
    SELECT note.* FROM unnest($1::uuid[]) AS requested (id),
        LATERAL (SELECT id, text FROM notes WHERE notes.id = requested.id LIMIT 1) AS note
"""
INSERT = "INSERT INTO notes (id, text) VALUES ($1, $2)"


class NotesStore(Database):
    def __init__(self, url: str, *, limits: Limits, wait_seconds: float) -> None:
        super().__init__(url, CONFIG, limits=limits, wait_seconds=wait_seconds)
        self._by_id = self._batch_reads(rows_by_key(one=GET, many=GET_MANY))
        self._adds = self._batch_writes(execute_one=_add, execute_many=_add_all, settle=_add_if_missing)

    async def add(self, note_id: UUID, text: str) -> None:
        """Raises asyncpg.UniqueViolationError if it exists, unless this call may have inserted it."""
        await self._adds.submit((note_id, text))

    async def get(self, note_id: UUID) -> str | None:
        row = await self._by_id.submit(note_id)
        return None if row is None else row["text"]

    async def replace(self, note_ids: Sequence[UUID], text: str) -> None:
        """Sets the text of all of them, or of none."""

        async def replace(db: Connection) -> None:
            async with transaction(db):
                for note_id in note_ids:
                    await db.execute("UPDATE notes SET text = $2 WHERE id = $1", note_id, text)

        await self._run(replace)

    async def count(self) -> int:
        return int(await self._run(lambda db: db.fetchval("SELECT count(*) FROM notes")))


async def _add(db: Connection, note: Note) -> None:
    await db.execute(INSERT, *note)


async def _add_all(db: Connection, notes: list[Note]) -> list[None]:
    await db.executemany(INSERT, notes)
    return [None] * len(notes)


async def _add_if_missing(db: Connection, note: Note) -> None:
    await db.execute(f"{INSERT} ON CONFLICT DO NOTHING", *note)
