"""/v1/notes: routes that write and read."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import Depends, Query, Request

from chassis.auth import requires
from chassis.problems import Problem, problem_responses
from chassis.routes import Router
from your_service.models import NewNote, Note
from your_service.store import NoteStore

router = Router(prefix="/v1/notes", tags=["notes"])
READ, WRITE = Depends(requires("read")), Depends(requires("write"))


async def _store(request: Request) -> NoteStore:
    store: NoteStore = request.app.state.store
    return store


Store = Annotated[NoteStore, Depends(_store)]


@router.post("", status_code=201, dependencies=[WRITE], responses=problem_responses(401, 403, 408, 413, 422, 429, 503))
async def add_note(store: Store, new: NewNote) -> Note:
    """Stores a note; responds once it is synced to disk."""
    note = Note(**new.model_dump(), id=uuid4(), created_at=datetime.now(UTC))
    await store.add(note)
    return note


@router.get("", dependencies=[READ], responses=problem_responses(401, 403, 422, 429, 503))
async def list_notes(store: Store, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> list[Note]:
    """Lists notes, newest first."""
    return await store.newest(limit)


@router.get("/{note_id}", dependencies=[READ], responses=problem_responses(401, 403, 404, 422, 429, 503))
async def get_note(store: Store, note_id: UUID) -> Note:
    """Returns a note by its id."""
    note = await store.get(note_id)
    if note is None:
        raise Problem(404, f"There is no note {note_id}.", type="not-found")
    return note
