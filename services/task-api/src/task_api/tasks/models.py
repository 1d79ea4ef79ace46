"""A task, as it is kept and as it travels."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, cast
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    StringConstraints,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import CoreSchema
from pydantic_core.core_schema import simple_ser_schema

from task_api.tasks.rrule import parse
from task_api.tasks.time_zones import checked


class Status(StrEnum):
    TO_DO = "todo"
    IN_PROGRESS = "in_progress"
    DONE = "done"
    CANCELLED = "cancelled"


class Priority(StrEnum):
    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    URGENT = "urgent"

    @property
    def rank(self) -> int:
        """0 for `none` to 4 for `urgent`: the order that lists are sorted in."""
        return _RANKS[self]


_RANKS = {priority: rank for rank, priority in enumerate(Priority)}


# PostgreSQL's text type cannot hold U+0000, and no text needs the other control characters.
NO_CONTROL_CHARACTERS = r"^[^\x00-\x1f\x7f-\x9f]*$"
NOT_BLANK = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
NO_NUL = r"^[^\x00]*$"


def _without_repetition(labels: list[str]) -> list[str]:
    return list(dict.fromkeys(labels))


MIN_YEAR, MAX_YEAR = 2, 9998
"""The first and the last year that there is stand for "always" and "never" (in PostgreSQL's driver: infinity)."""


def in_utc(time: datetime) -> datetime:
    """The moment in UTC. Raises ValueError where that is outside of what can be kept."""
    try:
        moved = time.astimezone(UTC)
    except OverflowError:
        moved = None
    if moved is None or not MIN_YEAR <= moved.year <= MAX_YEAR:
        raise ValueError(f"must be between the years {MIN_YEAR} and {MAX_YEAR}")
    return moved


def _in_range(day: date) -> date:
    if not MIN_YEAR <= day.year <= MAX_YEAR:
        raise ValueError(f"must be between the years {MIN_YEAR} and {MAX_YEAR}")
    return day


def _number(value: object) -> object:
    # pydantic would take "5" and true as well; 5.0 is an integer in JSON.
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ValueError("must be a number")


def _written_out(value: object) -> object:
    # pydantic would take numbers for seconds since 1970, and a moment at midnight for a day: mostly slips.
    if isinstance(value, str) and re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T", value):
        return value
    raise ValueError("must be a moment like 2026-12-01T10:00:00Z")


def _day_written_out(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return value
    raise ValueError("must be a day like 2026-12-01")


Time = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(in_utc)]
Day = Annotated[date, BeforeValidator(_day_written_out), AfterValidator(_in_range)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=NOT_BLANK)]

Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=NOT_BLANK),
    Field(description="What is to be done, in a line"),
]
Description = Annotated[
    str, StringConstraints(max_length=10_000, pattern=NO_NUL), Field(description="Everything else that matters")
]
DueAt = Annotated[Time, Field(description="The moment it is due; either this or `due_on`")]
DueOn = Annotated[Day, Field(description="The day it is due, whatever the time zone; either this or `due_at`")]
StartAt = Annotated[Time, Field(description="Not to be begun before")]
Labels = Annotated[
    list[Name], Field(max_length=20, description="Free words; no repetitions"), AfterValidator(_without_repetition)
]
Project = Annotated[Name, Field(description="The name of what it belongs to")]
Parent = Annotated[
    UUID, Field(description="The task that it is a part of. Kept as given: that task may come later, or go")
]
Assignee = Annotated[Name, Field(description="Who does it: a name, an address or an id of yours")]
Version = Annotated[int, Field(ge=1, le=2**31 - 1), BeforeValidator(_number)]
Percent = Annotated[
    int,
    Field(ge=0, le=100, description="How much of it is done; 100 when the status becomes `done`"),
    BeforeValidator(_number),
]
Recurrence = Annotated[
    str,
    StringConstraints(min_length=1, max_length=500),
    AfterValidator(lambda rule: parse(rule).text),
    Field(
        description="An RRULE (RFC 5545). When the task is done its next occurrence is created, and has the rule",
        json_schema_extra={"format": "rrule"},
    ),
]
TimeZone = Annotated[
    str,
    StringConstraints(min_length=1, max_length=40),
    AfterValidator(checked),
    Field(
        description="Of the clock that `recurrence` goes by, such as `Europe/Berlin`; UTC without one",
        json_schema_extra={"format": "time-zone"},
    ),
]
# Without it a number is 32 bits wide in the clients that some generators make (oapi-codegen's).
DOUBLE: JsonDict = {"format": "double"}
Position = Annotated[
    float,
    Field(
        strict=True,
        ge=-1e15,
        le=1e15,
        allow_inf_nan=False,
        description="For an order of your own: `sort=position`",
        json_schema_extra=DOUBLE,
    ),
    AfterValidator(lambda number: number + 0.0),  # -0.0 is 0.0, which it equals, and not every storage keeps it
]
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9_.-]+$")]
MetadataValue = Annotated[str, StringConstraints(max_length=500, pattern=NO_NUL)]
MAX_METADATA = 50


def _name_keys(schema: JsonDict) -> None:
    """Says of the keys by `propertyNames` what pydantic says by `patternProperties`: of those, generators of clients
    make an empty class that drops every value."""
    ((pattern, value),) = cast("JsonDict", schema.pop("patternProperties")).items()
    schema["propertyNames"] = {**cast("JsonDict", schema["propertyNames"]), "pattern": pattern}
    schema["additionalProperties"] = value


KEYS_BY_NAME = Field(json_schema_extra=_name_keys)


EXAMPLE_ID = "01a209b3-fcfd-7015-92d5-ecad43015460"
EXAMPLE_TASK: JsonDict = {
    "id": EXAMPLE_ID,
    "title": "Water the plants",
    "description": None,
    "status": "todo",
    "priority": "high",
    "due_at": None,
    "due_on": "2026-12-01",
    "start_at": None,
    "labels": ["home"],
    "project": None,
    "parent": None,
    "assignee": None,
    "percent_done": 0,
    "recurrence": "FREQ=WEEKLY",
    "time_zone": None,
    "followed_by": None,
    "position": 0.0,
    "metadata": {},
    "created_at": "2026-11-23T18:38:40.381632Z",
    "updated_at": "2026-11-23T18:38:40.381632Z",
    "completed_at": None,
    "deleted_at": None,
    "version": 1,
}


def _as_text(kind: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    return {**handler(kind), "serialization": simple_ser_schema("str")}


AS_TEXT = GetPydanticSchema(_as_text)
"""An enumeration of texts, written as the text that each member is. pydantic would ask each for its `value`, which is
Python: 28 of the 691 µs of CPU of a list of 50."""


class Task(BaseModel):
    """A task. Times are in UTC."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [EXAMPLE_TASK]})

    id: UUID = Field(description="UUIDv7: sorts by time of creation")
    title: str
    description: str | None
    status: Annotated[Status, AS_TEXT]
    priority: Annotated[Priority, AS_TEXT]
    due_at: datetime | None
    due_on: date | None
    start_at: datetime | None
    labels: list[str]
    project: str | None
    parent: UUID | None
    assignee: str | None
    percent_done: int
    recurrence: str | None
    # Not there in the feed and the answers that earlier releases wrote.
    time_zone: str | None = None
    followed_by: UUID | None = Field(
        default=None, description="The next occurrence, which was created when this one was done"
    )
    position: float = Field(json_schema_extra=DOUBLE)
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None = Field(description="When the status became `done`; null in any other status")
    deleted_at: datetime | None = Field(description="When it was deleted; it can be undeleted for 30 days")
    version: int = Field(description="1 when created, one more with each change; the ETag is made of it")

    @property
    def due(self) -> datetime | None:
        """When it is due as one moment, for order and filters: a day counts from its first moment in UTC."""
        if self.due_on is not None:
            return datetime(self.due_on.year, self.due_on.month, self.due_on.day, tzinfo=UTC)
        return self.due_at


_FIELDS = set(Task.model_fields)
_set_fields = BaseModel.__dict__["__dict__"].__set__
_set_fields_set = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private = BaseModel.__dict__["__pydantic_private__"].__set__


def trusted(fields: dict[str, Any]) -> Task:
    """The task of fields that need no validation, since they were validated before: all of them, in their order, in
    the types that a Task has.

    Task(**fields) takes 2.5 µs for each task of a list, model_construct 4.6, object.__setattr__ by name 0.4, and this
    half of that.
    """
    task = Task.__new__(Task)
    _set_fields(task, fields)
    _set_fields_set(task, _FIELDS)
    _set_extra(task, None)
    _set_private(task, None)
    return task


def without_defaults(schema: JsonDict) -> None:
    """Takes the defaults out of what a request may hold; descriptions say what holds where a member is absent.

    Of a member with a default, openapi-typescript makes one that has to be sent, and openapi-generator and
    openapi-python-client send the default of each that was not given: of a patch of the title, one of everything.
    """
    for member in cast("JsonDict", schema["properties"]).values():
        cast("JsonDict", member).pop("default", None)


def _one_due(schema: JsonDict) -> None:
    without_defaults(schema)
    schema["not"] = {
        "required": ["due_at", "due_on"],
        "properties": {"due_at": {"type": "string"}, "due_on": {"type": "string"}},
    }


class _OneDue(BaseModel):
    """What both bodies of requests have in common: no unknown members, and one due date."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_one_due)

    due_at: DueAt | None = None
    due_on: DueOn | None = None

    @model_validator(mode="after")
    def _one_due(self) -> _OneDue:
        if self.due_at is not None and self.due_on is not None:
            raise ValueError("a task is due at a moment (due_at) or on a day (due_on), not both")
        return self


class NewTask(_OneDue):
    """What a client says of a task that it creates."""

    title: Title
    description: Description | None = None
    status: Status = Field(default=Status.TO_DO, description="`todo` unless said")
    priority: Priority = Field(default=Priority.NONE, description="`none` unless said")
    start_at: StartAt | None = None
    labels: Labels = []
    project: Project | None = None
    parent: Parent | None = None
    assignee: Assignee | None = None
    percent_done: Percent | None = Field(
        default=None, description="0 unless said; 100 for a task that is created `done`"
    )
    recurrence: Recurrence | None = None
    time_zone: TimeZone | None = None
    position: Position = 0.0
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA), KEYS_BY_NAME] = {}


class TaskPatch(_OneDue):
    """A JSON merge patch (RFC 7396): a member that is absent stays as it is, `null` makes it what it is of a new task.

    A title cannot be cleared. `labels` is replaced as a whole; `metadata` is merged key by key, and a key that is
    `null` is removed. `due_at` clears `due_on`, and the other way round.
    """

    # The defaults stand for "absent": `model_fields_set` says what was sent. Neither they nor their order may change:
    # the fingerprint of a batch under an Idempotency-Key is made of them, by the release before as well.
    title: Title = ""
    description: Description | None = None
    status: Status | None = Status.TO_DO
    priority: Priority | None = Priority.NONE
    start_at: StartAt | None = None
    labels: Labels | None = []
    project: Project | None = None
    parent: Parent | None = None
    assignee: Assignee | None = None
    percent_done: Percent | None = 0
    recurrence: Recurrence | None = None
    time_zone: TimeZone | None = None
    position: Position | None = 0.0
    metadata: (
        Annotated[dict[MetadataKey, MetadataValue | None], Field(max_length=MAX_METADATA), KEYS_BY_NAME] | None
    ) = {}


class TaskPage(BaseModel):
    """One page of a list."""

    items: list[Task]
    next_cursor: str | None = Field(description="Send it as `cursor` to get the next page; null on the last one")


class CreateItem(BaseModel):
    """Create a task."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["create"]
    task: NewTask


class UpdateItem(BaseModel):
    """Change a task, if it still has this version where one is named."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["update"]
    id: UUID
    if_version: Version | None = None
    patch: TaskPatch


class DeleteItem(BaseModel):
    """Delete a task, if it still has this version where one is named."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["delete"]
    id: UUID
    if_version: Version | None = None


class Batch(BaseModel):
    """Up to 100 changes at once."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=without_defaults)

    atomic: bool = Field(
        default=False,
        strict=True,
        description="All or nothing: one that cannot be done undoes the others. Not so unless said",
    )
    items: list[Annotated[CreateItem | UpdateItem | DeleteItem, Field(discriminator="action")]] = Field(
        min_length=1, max_length=100
    )


class BatchResult(BaseModel):
    """What became of one item."""

    status: int = Field(
        description="As the request alone would have been answered; 424: undone because of another item"
    )
    task: Task | None = Field(default=None, description="The task as it is now, where the item was done")
    detail: str | None = Field(default=None, description="Why the item was not done")


class BatchAnswer(BaseModel):
    """What became of the items, in their order."""

    results: list[BatchResult]


ChangeType = Literal["created", "updated", "deleted", "undeleted"]


class Change(BaseModel):
    """One change of one task."""

    id: str = Field(description="Where in the feed it stands: send it as `since` to get what came after")
    type: ChangeType
    task: Task = Field(description="The task as this change left it")


class ChangePage(BaseModel):
    """What changed, in the order in which it became visible."""

    items: list[Change]
    next_since: str = Field(description="Send it as `since` to go on; there may be nothing new yet")


def to_json(model: BaseModel) -> bytes:
    """The model as JSON in bytes: model_dump_json would make a str of them, which a response would encode again."""
    return model.__pydantic_serializer__.to_json(model)
