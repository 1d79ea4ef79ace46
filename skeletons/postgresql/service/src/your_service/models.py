"""The models of notes: in requests, in responses and in the database."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field


class NewNote(BaseModel):
    text: str = Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$", examples=["Milk"])  # PostgreSQL has no NUL


class Note(NewNote):
    id: UUID
    created_at: datetime
