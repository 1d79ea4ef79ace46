"""Notes in PostgreSQL: all SQL of this service."""

from pathlib import Path
from uuid import UUID

from chassis.postgres.database import Database, DatabaseConfig
from chassis.postgres.metrics import DatabaseMetrics
from your_service.models import Note
from your_service.settings import Settings

CONFIG = DatabaseConfig(
    name="your-service",
    setting=Settings.variable("database_url"),
    migrations=Path(__file__).parent / "migrations",
    lock=1,  # the database is not shared with other services
    metrics=DatabaseMetrics("your_service"),
)


class NoteStore(Database):
    def __init__(self, settings: Settings) -> None:
        url, wait_seconds = settings.database_url.get_secret_value(), settings.database_wait_seconds
        super().__init__(url, CONFIG, limits=settings.limits, wait_seconds=wait_seconds)

    async def add(self, note: Note) -> None:
        """May run twice if a connection is lost: idempotent, since the note already has its id."""
        insert = "INSERT INTO notes (id, text, created_at) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING"
        await self._run_idempotent(lambda db: db.execute(insert, note.id, note.text, note.created_at))

    async def get(self, note_id: UUID) -> Note | None:
        row = await self._run(lambda db: db.fetchrow("SELECT * FROM notes WHERE id = $1", note_id))
        return None if row is None else Note(**row)

    async def newest(self, limit: int) -> list[Note]:
        rows = await self._run(lambda db: db.fetch("SELECT * FROM notes ORDER BY created_at DESC LIMIT $1", limit))
        return [Note(**row) for row in rows]

    async def count(self) -> int:
        """For /health, every five seconds."""
        return int(await self._run(lambda db: db.fetchval("SELECT count(*) FROM notes")))
