"""Counts of tasks: per list, and per label, project and assignee. The rows read are bounded."""

from __future__ import annotations

from fastapi import Response
from pydantic import BaseModel, Field

from chassis.problems import problem_responses
from chassis.routes import Router
from task_api.tasks.dependencies import Reader, StoreDependency
from task_api.tasks.models import to_json
from task_api.tasks.query import NameKind
from task_api.tasks.routes import AUTH, FiltersDependency, RawJSONResponse

MAX_COUNT = 1_000
"""The tasks of a list are counted up to this: a larger number means `many` to a person."""

SCANNED_TASKS = 10_000
"""The number of newest tasks that are scanned for names; PostgreSQL takes about 10 ms."""

MAX_NAMES = 200
"""The maximum number of names returned: each may have 100 characters, and a task 20 labels."""

router = Router(prefix="/v1", tags=["tasks"])


class Count(BaseModel):
    """The number of tasks in a list."""

    count: int = Field(ge=0, le=MAX_COUNT, examples=[42])
    more: bool = Field(description=f"Whether there are more: tasks are counted up to {MAX_COUNT:,}")


class NameCount(BaseModel):
    """A name and the number of tasks that have it."""

    name: str = Field(examples=["home"])
    count: int = Field(ge=1, examples=[42])


class NameCounts(BaseModel):
    """Names, most frequent first."""

    items: list[NameCount] = Field(max_length=MAX_NAMES)
    whole: bool = Field(
        description=f"Whether these are all names of all tasks: only the newest {SCANNED_TASKS:,} tasks are scanned, "
        f"and at most {MAX_NAMES} names returned"
    )


@router.get(
    "/tasks:count",
    summary="Count the tasks of a list",
    response_model=Count,
    responses=problem_responses(*AUTH, 422, 503),
)
async def count_tasks(_caller: Reader, store: StoreDependency, filters: FiltersDependency) -> Response:
    """Takes the same filters as the list. Exact up to 1,000; `more` is true if there are more."""
    found = await store.count_found(filters, limit=MAX_COUNT + 1)
    return RawJSONResponse(to_json(Count(count=min(found, MAX_COUNT), more=found > MAX_COUNT)), 200, {})


@router.get(
    "/labels",
    summary="List labels",
    response_model=NameCounts,
    responses=problem_responses(*AUTH, 503),
)
async def list_labels(_caller: Reader, store: StoreDependency) -> Response:
    """With the number of tasks that have each, without deleted ones; most frequent first."""
    return await _names(store, "label")


@router.get(
    "/projects",
    summary="List projects",
    response_model=NameCounts,
    responses=problem_responses(*AUTH, 503),
)
async def list_projects(_caller: Reader, store: StoreDependency) -> Response:
    """With the number of tasks of each, without deleted ones; most frequent first."""
    return await _names(store, "project")


@router.get(
    "/assignees",
    summary="List assignees",
    response_model=NameCounts,
    responses=problem_responses(*AUTH, 503),
)
async def list_assignees(_caller: Reader, store: StoreDependency) -> Response:
    """With the number of tasks of each, without deleted ones; most frequent first."""
    return await _names(store, "assignee")


async def _names(store: StoreDependency, kind: NameKind) -> Response:
    found = await store.names(kind, scan=SCANNED_TASKS, limit=MAX_NAMES)
    items = [NameCount(name=name, count=count) for name, count in found.counts]
    return RawJSONResponse(to_json(NameCounts(items=items, whole=found.whole)), 200, {})
