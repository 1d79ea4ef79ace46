"""The models of tasks, of request bodies and of responses."""

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
from task_api.tasks.time_zones import check_time_zone


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
        """0 for `none` to 4 for `urgent`: the sort order."""
        return _RANKS[self]


_RANKS = {priority: rank for rank, priority in enumerate(Priority)}


# PostgreSQL's text type cannot store U+0000, and no text needs the other control characters.
NO_CONTROL_CHARACTERS = r"^[^\x00-\x1f\x7f-\x9f]*$"
NOT_BLANK = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
NO_NUL = r"^[^\x00]*$"


def _deduplicate(labels: list[str]) -> list[str]:
    return list(dict.fromkeys(labels))


MIN_YEAR, MAX_YEAR = 2, 9998
"""Years 1 and 9999 are reserved for "always" and "never" (infinity in PostgreSQL's driver)."""

UNDELETE_DAYS = 30
"""How long a deleted task can be undeleted and changes stay in the feed; then both are purged."""


def in_utc(time: datetime) -> datetime:
    """The timestamp in UTC. Raises ValueError if it is out of the storable range."""
    try:
        converted = time.astimezone(UTC)
    except OverflowError:
        converted = None
    if converted is None or not MIN_YEAR <= converted.year <= MAX_YEAR:
        raise ValueError(f"must be between the years {MIN_YEAR} and {MAX_YEAR}")
    return converted


def _check_range(day: date) -> date:
    if not MIN_YEAR <= day.year <= MAX_YEAR:
        raise ValueError(f"must be between the years {MIN_YEAR} and {MAX_YEAR}")
    return day


def _require_number(value: object) -> object:
    # pydantic would also accept "5" and true; 5.0 is an integer in JSON.
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ValueError("must be a number")


def _require_iso_datetime(value: object) -> object:
    # pydantic would accept numbers as Unix timestamps, and a date-time at midnight as a date: mostly mistakes.
    if isinstance(value, str) and re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T", value):
        return value
    raise ValueError("must be a date-time like 2026-12-01T10:00:00Z")


def _require_iso_date(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return value
    raise ValueError("must be a date like 2026-12-01")


Time = Annotated[AwareDatetime, BeforeValidator(_require_iso_datetime), AfterValidator(in_utc)]
Day = Annotated[date, BeforeValidator(_require_iso_date), AfterValidator(_check_range)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=NOT_BLANK)]

Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=NOT_BLANK),
    Field(description="Short summary, a single line"),
]
Description = Annotated[
    str, StringConstraints(max_length=10_000, pattern=NO_NUL), Field(description="Details, any text")
]
DueAt = Annotated[Time, Field(description="Due date-time; either this or `due_on`")]
DueOn = Annotated[Day, Field(description="Due date, independent of time zones; either this or `due_at`")]
StartAt = Annotated[Time, Field(description="Earliest start time")]
Labels = Annotated[
    list[Name], Field(max_length=20, description="Free-form labels, without duplicates"), AfterValidator(_deduplicate)
]
Project = Annotated[Name, Field(description="Project name")]
Parent = Annotated[
    UUID, Field(description="Id of the parent task. Not checked: that task may be created later or deleted")
]
Assignee = Annotated[Name, Field(description="Who is responsible: any name, address or id")]
Version = Annotated[int, Field(ge=1, le=2**31 - 1), BeforeValidator(_require_number)]
Percent = Annotated[
    int,
    Field(ge=0, le=100, description="Progress; set to 100 when the status becomes `done`"),
    BeforeValidator(_require_number),
]
Recurrence = Annotated[
    str,
    StringConstraints(min_length=1, max_length=500),
    AfterValidator(lambda rule: parse(rule).text),
    Field(
        description="An RRULE (RFC 5545). When the task is done, its next occurrence is created with the rule",
        json_schema_extra={"format": "rrule"},
    ),
]
TimeZone = Annotated[
    str,
    StringConstraints(min_length=1, max_length=40),
    AfterValidator(check_time_zone),
    Field(
        description="IANA time zone of `recurrence`, such as `Europe/Berlin`; UTC by default",
        json_schema_extra={"format": "time-zone"},
    ),
]
# Without it some generators (oapi-codegen) make 32-bit numbers.
DOUBLE: JsonDict = {"format": "double"}
Position = Annotated[
    float,
    Field(
        strict=True,
        ge=-1e15,
        le=1e15,
        allow_inf_nan=False,
        description="Manual sort order: `sort=position`",
        json_schema_extra=DOUBLE,
    ),
    AfterValidator(lambda number: number + 0.0),  # -0.0 becomes 0.0: they are equal, and not every database stores -0.0
]
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9_.-]+$")]
MetadataValue = Annotated[str, StringConstraints(max_length=500, pattern=NO_NUL)]
MAX_METADATA = 50


def _use_property_names(schema: JsonDict) -> None:
    """Describes the keys by `propertyNames` instead of pydantic's `patternProperties`, from which client generators
    make an empty class that drops every value."""
    ((pattern, value),) = cast("JsonDict", schema.pop("patternProperties")).items()
    schema["propertyNames"] = {**cast("JsonDict", schema["propertyNames"]), "pattern": pattern}
    schema["additionalProperties"] = value


METADATA_SCHEMA = Field(json_schema_extra=_use_property_names)


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


def _serialize_as_str(kind: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    return {**handler(kind), "serialization": simple_ser_schema("str")}


SERIALIZED_AS_STR = GetPydanticSchema(_serialize_as_str)
"""A StrEnum, serialized as the str that each member is. pydantic would read each member's `value`, a Python call: 28 of
the 691 µs of CPU of a list of 50."""


class Task(BaseModel):
    """A task. Timestamps are in UTC."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [EXAMPLE_TASK]})

    id: UUID = Field(description="UUIDv7: sorts by creation time")
    title: str
    description: str | None
    status: Annotated[Status, SERIALIZED_AS_STR]
    priority: Annotated[Priority, SERIALIZED_AS_STR]
    due_at: datetime | None
    due_on: date | None
    start_at: datetime | None
    labels: list[str]
    project: str | None
    parent: UUID | None
    assignee: str | None
    percent_done: int
    recurrence: str | None
    # Absent from the feed entries and idempotency records of earlier releases.
    time_zone: str | None = None
    followed_by: UUID | None = Field(
        default=None, description="Id of the next occurrence, created when this one was done"
    )
    position: float = Field(json_schema_extra=DOUBLE)
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None = Field(description="When the status became `done`; null in any other status")
    deleted_at: datetime | None = Field(description=f"When it was deleted; can be undeleted for {UNDELETE_DAYS} days")
    version: int = Field(description="1 when created, incremented by each change; the ETag is derived from it")

    @property
    def due(self) -> datetime | None:
        """The due timestamp for sorting and filters: a due date counts as its midnight in UTC."""
        if self.due_on is not None:
            return datetime(self.due_on.year, self.due_on.month, self.due_on.day, tzinfo=UTC)
        return self.due_at


_FIELDS = set(Task.model_fields)
_set_fields = BaseModel.__dict__["__dict__"].__set__
_set_fields_set = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private = BaseModel.__dict__["__pydantic_private__"].__set__


def construct_unchecked(fields: dict[str, Any]) -> Task:
    """A task from fields that were validated before: all of them, in model order and with the types of Task.

    Task(**fields) takes 2.5 µs for each task of a list, model_construct 4.6, object.__setattr__ by name 0.4, and this
    half of that.
    """
    task = Task.__new__(Task)
    _set_fields(task, fields)
    _set_fields_set(task, _FIELDS)
    _set_extra(task, None)
    _set_private(task, None)
    return task


def etag(version: int) -> str:
    """A task's version as a strong ETag."""
    return f'"v{version}"'


def without_defaults(schema: JsonDict) -> None:
    """Removes the defaults from a request schema; descriptions say what applies to absent fields.

    openapi-typescript makes a field with a default required, and openapi-generator and openapi-python-client send the
    defaults of all fields that are not set: a patch of the title would reset everything else.
    """
    for field in cast("JsonDict", schema["properties"]).values():
        cast("JsonDict", field).pop("default", None)


def _exclude_two_dues(schema: JsonDict) -> None:
    without_defaults(schema)
    schema["not"] = {
        "required": ["due_at", "due_on"],
        "properties": {"due_at": {"type": "string"}, "due_on": {"type": "string"}},
    }


class _TaskInput(BaseModel):
    """Common to NewTask and TaskPatch: no unknown fields, and a single due date."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_exclude_two_dues)

    due_at: DueAt | None = None
    due_on: DueOn | None = None

    @model_validator(mode="after")
    def _check_one_due(self) -> _TaskInput:
        if self.due_at is not None and self.due_on is not None:
            raise ValueError("a task is due at a date-time (due_at) or on a date (due_on), not both")
        return self


class NewTask(_TaskInput):
    """The fields of a task to create."""

    title: Title
    description: Description | None = None
    status: Status = Field(default=Status.TO_DO, description="`todo` by default")
    priority: Priority = Field(default=Priority.NONE, description="`none` by default")
    start_at: StartAt | None = None
    labels: Labels = []
    project: Project | None = None
    parent: Parent | None = None
    assignee: Assignee | None = None
    percent_done: Percent | None = Field(
        default=None, description="0 by default; 100 for a task that is created `done`"
    )
    recurrence: Recurrence | None = None
    time_zone: TimeZone | None = None
    position: Position = 0.0
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA), METADATA_SCHEMA] = {}


class TaskPatch(_TaskInput):
    """A JSON merge patch (RFC 7396): absent fields stay unchanged, `null` resets a field to the default of a new task.

    `title` cannot be cleared. `labels` is replaced as a whole; `metadata` is merged key by key, and a key that is
    `null` is removed. `due_at` clears `due_on`, and vice versa.
    """

    # The defaults stand for "absent": `model_fields_set` has the fields sent. Neither they nor their order may change:
    # the fingerprint of a batch under an Idempotency-Key is computed from them, by the previous release as well.
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
        Annotated[dict[MetadataKey, MetadataValue | None], Field(max_length=MAX_METADATA), METADATA_SCHEMA] | None
    ) = {}


class TaskPage(BaseModel):
    """A page of a list."""

    items: list[Task]
    next_cursor: str | None = Field(description="Send it as `cursor` to get the next page; null on the last page")


class CreateItem(BaseModel):
    """Create a task."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["create"]
    task: NewTask


class UpdateItem(BaseModel):
    """Update a task; with `if_version` only at that version."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["update"]
    id: UUID
    if_version: Version | None = None
    patch: TaskPatch


class DeleteItem(BaseModel):
    """Delete a task; with `if_version` only at that version."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["delete"]
    id: UUID
    if_version: Version | None = None


class Batch(BaseModel):
    """Up to 100 operations in one transaction."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=without_defaults)

    atomic: bool = Field(
        default=False,
        strict=True,
        description="All or nothing: if one item fails, none is done. False by default",
    )
    items: list[Annotated[CreateItem | UpdateItem | DeleteItem, Field(discriminator="action")]] = Field(
        min_length=1, max_length=100
    )


class BatchResult(BaseModel):
    """The result of one item."""

    status: int = Field(
        description="The status of the equivalent single request; 424: not done because another item failed"
    )
    task: Task | None = Field(default=None, description="The resulting task, if the item was done")
    detail: str | None = Field(default=None, description="Why the item was not done")


class BatchAnswer(BaseModel):
    """The results of the items, in request order."""

    results: list[BatchResult]


ChangeType = Literal["created", "updated", "deleted", "undeleted"]


class Change(BaseModel):
    """A change of a task."""

    id: str = Field(description="The place in the feed: send it as `since` to get later changes")
    type: ChangeType
    task: Task = Field(description="The task after this change")


class ChangePage(BaseModel):
    """Changes in the order in which they became visible."""

    items: list[Change]
    next_since: str = Field(description="Send it as `since` to continue; there may be no later changes yet")


def to_json(model: BaseModel) -> bytes:
    """The model as JSON bytes: model_dump_json would decode them to str, and the response encode that again."""
    return model.__pydantic_serializer__.to_json(model)
