"""A task, as it is kept and as it travels."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints


class Status(StrEnum):
    TODO = "todo"
    IN_PROGRESS = "in_progress"
    DONE = "done"
    CANCELLED = "cancelled"


def _without_nul(text: str) -> str:
    # PostgreSQL's text type cannot hold U+0000.
    if "\0" in text:
        raise ValueError("must not contain the character U+0000")
    return text


Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_without_nul),
    Field(description="What is to be done, in a line"),
]
Description = Annotated[
    str,
    StringConstraints(max_length=10_000),
    AfterValidator(_without_nul),
    Field(description="Everything else that matters"),
]


class Task(BaseModel):
    """A task. Times are in UTC."""

    model_config = ConfigDict(frozen=True)

    id: UUID = Field(description="UUIDv7: sorts by time of creation")
    title: str
    description: str | None
    status: Status
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None = Field(description="When the status became `done`; null in any other status")
    version: int = Field(description="1 when created, one more with each change")


class NewTask(BaseModel):
    """What a client says of a task that it creates."""

    model_config = ConfigDict(extra="forbid")

    title: Title
    description: Description | None = None
    status: Status = Status.TODO


class TaskPatch(BaseModel):
    """A JSON merge patch (RFC 7396): a member that is absent stays as it is, `null` clears it."""

    model_config = ConfigDict(extra="forbid")

    title: Title = ""
    description: Description | None = None
    status: Status = Status.TODO


class TaskPage(BaseModel):
    """One page of a list."""

    items: list[Task]
    next_cursor: str | None = Field(description="Send it as `cursor` to get the next page; null on the last one")
