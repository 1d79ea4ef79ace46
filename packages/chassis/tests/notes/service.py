"""The definition of this service."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID, uuid4

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel
from pydantic_settings import SettingsConfigDict

from chassis.metrics import Metrics
from chassis.postgres.command_line import migrate_command
from chassis.postgres.service import PostgresService, health_texts
from chassis.postgres.settings import DatabaseSettings
from chassis.routes import Router
from notes.store import NotesStore

router = Router(prefix="/v1/notes", tags=["notes"])


class Note(BaseModel):
    text: str


@router.post("", status_code=201)
async def add_note(request: Request, note: Note) -> UUID:
    """Stores a note."""
    note_id = uuid4()
    await request.app.state.store.add(note_id, note.text)
    return note_id


@router.get("/{note_id}")
async def get_note(request: Request, note_id: UUID, _q: Annotated[str, Query(alias="q")] = "") -> str | None:
    """Returns a note; ignores `q`, which no trace may contain."""
    text: str | None = await request.app.state.store.get(note_id)
    return text


class Settings(DatabaseSettings):
    """Read from the environment: `NOTES_` and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="NOTES_")


class Notes(PostgresService):
    """Stores notes."""

    name = "notes"
    version = "1.2.3"
    title = "Notes API"
    description = "Stores notes."
    tags = ({"name": "notes", "description": "An example"},)
    settings = Settings
    metrics = Metrics("notes")
    health = health_texts("notes")
    credential_prefix = "notes_"
    scope_prefix = "notes"
    commands = (migrate_command(Settings),)

    def __init__(self, settings: Settings) -> None:
        self._notes = NotesStore(
            settings.database_url.get_secret_value(),
            limits=settings.limits,
            wait_seconds=settings.database_wait_seconds,
        )
        super().__init__(self._notes)

    def add_to(self, app: FastAPI) -> None:
        """Adds the routes to `app`, and their store."""
        app.state.store = self._notes
        app.include_router(router)
