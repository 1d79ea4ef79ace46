"""How many tasks a list has, and each label, project and assignee: by a bounded number of rows."""

from __future__ import annotations

from fastapi import Response
from pydantic import BaseModel, Field

from chassis.problems import problem_responses
from chassis.routes import Router
from task_api.tasks.dependencies import Reader, StoreDependency
from task_api.tasks.models import to_json
from task_api.tasks.query import NameKind
from task_api.tasks.routes import AUTH, FiltersDependency, Json

COUNTED = 1_000
"""Up to so many tasks of a list are counted: more than that a person reads as `many`."""

AMONG = 10_000
"""So many of the newest tasks are looked through for names; PostgreSQL takes about 10 ms."""

NAMES = 200
"""So many names are returned: each may have 100 characters, and a task 20 labels."""

router = Router(prefix="/v1", tags=["tasks"])


class Count(BaseModel):
    """How many tasks a list has."""

    count: int = Field(ge=0, le=COUNTED, examples=[42])
    more: bool = Field(description=f"Whether there are more than that: they are counted up to {COUNTED:,}")


class NameCount(BaseModel):
    """A name, and how many tasks have it."""

    name: str = Field(examples=["home"])
    count: int = Field(ge=1, examples=[42])


class NameCounts(BaseModel):
    """The names that most tasks have, first."""

    items: list[NameCount] = Field(max_length=NAMES)
    whole: bool = Field(
        description=f"Whether these are all names and all tasks: only the newest {AMONG:,} tasks are looked through, "
        f"and at most {NAMES} names returned"
    )


@router.get(
    "/tasks:count",
    summary="Count the tasks of a list",
    response_model=Count,
    responses=problem_responses(*AUTH, 422, 503),
)
async def count_tasks(_caller: Reader, store: StoreDependency, filters: FiltersDependency) -> Response:
    """By the same filters as the list. Exact up to 1,000; where there are more `more` says so."""
    found = await store.count_found(filters, most=COUNTED + 1)
    return Json(to_json(Count(count=min(found, COUNTED), more=found > COUNTED)), 200, {})


@router.get(
    "/labels",
    summary="List labels",
    response_model=NameCounts,
    responses=problem_responses(*AUTH, 503),
)
async def list_labels(_caller: Reader, store: StoreDependency) -> Response:
    """With how many tasks have each, without the deleted ones; those of most tasks first."""
    return await _names(store, "label")


@router.get(
    "/projects",
    summary="List projects",
    response_model=NameCounts,
    responses=problem_responses(*AUTH, 503),
)
async def list_projects(_caller: Reader, store: StoreDependency) -> Response:
    """With how many tasks each has, without the deleted ones; those of most tasks first."""
    return await _names(store, "project")


@router.get(
    "/assignees",
    summary="List assignees",
    response_model=NameCounts,
    responses=problem_responses(*AUTH, 503),
)
async def list_assignees(_caller: Reader, store: StoreDependency) -> Response:
    """With how many tasks each has, without the deleted ones; those of most tasks first."""
    return await _names(store, "assignee")


async def _names(store: StoreDependency, kind: NameKind) -> Response:
    found = await store.names(kind, among=AMONG, most=NAMES)
    items = [NameCount(name=name, count=count) for name, count in found.counts]
    return Json(to_json(NameCounts(items=items, whole=found.whole)), 200, {})
