"""What this service is."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel
from pydantic_settings import SettingsConfigDict

from chassis.check import Check
from chassis.metrics import Metrics
from chassis.postgres.command_line import migrate_command
from chassis.postgres.settings import DatabaseSettings
from chassis.postgres.tracing import trace_statements
from chassis.service import HealthTexts, Service
from chassis.storage import StoreUnavailable
from chassis.storage_health import StorageHealth
from notes.store import NotesStore

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

router = APIRouter(prefix="/v1/notes", tags=["notes"])


class Note(BaseModel):
    text: str


@router.post("", status_code=201)
async def add_note(request: Request, note: Note) -> UUID:
    """Keeps a note."""
    note_id = uuid4()
    await request.app.state.store.add(note_id, note.text)
    return note_id


@router.get("/{note_id}")
async def get_note(request: Request, note_id: UUID) -> str | None:
    """Reads it."""
    text: str | None = await request.app.state.store.get(note_id)
    return text


class Settings(DatabaseSettings):
    """Read from the environment: `NOTES_` and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="NOTES_")


class Notes(Service):
    """Keeps notes."""

    name = "notes"
    version = "1.2.3"
    title = "Notes API"
    description = "Keeps notes."
    tags = ({"name": "notes", "description": "An example"},)
    settings = Settings
    metrics = Metrics("notes")
    health = HealthTexts(noun="notes", total="Notes in the storage", gauge="Notes in the storage", storage="postgresql")
    credential_prefix = "notes_"
    scope_prefix = "notes"
    storage = NotesStore.kind
    cannot_open = (StoreUnavailable,)
    commands = (migrate_command(Settings),)

    def __init__(self, settings: Settings) -> None:
        self._store = NotesStore(
            settings.database_url.get_secret_value(),
            limits=settings.limits,
            wait_seconds=settings.database_wait_seconds,
        )
        self._health = StorageHealth(self._store)

    def add_to(self, app: FastAPI) -> None:
        """Gives `app` its routes, and the store that they ask for."""
        app.state.store = self._store
        app.include_router(router)

    async def open(self) -> None:
        """Connects, and brings the schema up to date."""
        await self._store.open()
        await self._health.opened()

    def background(self) -> list[Coroutine[None, None, None]]:
        """Counts the notes."""
        return [self._health.keep_counting()]

    async def close(self) -> None:
        """Disconnects."""
        await self._store.close()

    async def condition(self) -> tuple[int | None, dict[str, Check]]:
        """How many notes there are, and whether the storage answers."""
        return await self._health.condition()

    def trace(self, provider: TracerProvider) -> None:
        """Makes a span of each statement."""
        trace_statements(provider)
