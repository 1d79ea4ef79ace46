"""/v1/tasks: reads requests, asks for what is to be done, answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from fastapi import Body, Depends, Path, Query, Request, Response, status
from pydantic import StringConstraints

from chassis.auth import Basic
from chassis.problems import Problem, problem_responses
from chassis.routes import Router
from task_api.store.protocol import TaskJson
from task_api.tasks import commands
from task_api.tasks.commands import Answered
from task_api.tasks.dependencies import CalendarReader, Reader, StoreDependency, Writer
from task_api.tasks.idempotency import IdempotencyKey, replayed_header, request_key
from task_api.tasks.models import (
    EXAMPLE_ID,
    NO_CONTROL_CHARACTERS,
    NO_NUL,
    Batch,
    BatchAnswer,
    Day,
    NewTask,
    Priority,
    Status,
    Task,
    TaskPage,
    TaskPatch,
    Time,
    to_json,
)
from task_api.tasks.pages import fitting
from task_api.tasks.preconditions import (
    IfMatch,
    IfNoneMatch,
    content_etag,
    etag,
    expectation,
    is_known,
    list_etag,
)
from task_api.tasks.query import (
    Filters,
    Order,
    Owner,
    WrongCursor,
    read_cursor,
    read_order,
    words,
    write_cursor,
)
from task_api.tasks.query import Query as TaskQuery

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 200
SORT_PATTERN = (
    r"^-?(created_at|updated_at|due|start_at|completed_at|priority|title|position)"
    r"(,-?(created_at|updated_at|due|start_at|completed_at|priority|title|position))*$"
)

router = Router(prefix="/v1/tasks", tags=["tasks"])

TaskId = Annotated[UUID, Path(description="The task's id", examples=[EXAMPLE_ID])]
ExactName = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=NO_CONTROL_CHARACTERS)]

AUTH = (401, 403, 429)
BODY = (408, 413)
ETAG = {"ETag": {"description": "The task's version", "schema": {"type": "string"}}}
EXAMPLE = {"title": "Water the plants", "priority": "high", "due_on": "2026-12-01", "labels": ["home"]}

CACHED = {"Cache-Control": "private, no-cache"}
"""Of what may be kept and has to be revalidated: no cache that several share may give one caller another's tasks."""
PACKED = {**CACHED, "Vary": "Accept-Encoding"}
"""The same of what is large enough to be compressed (chassis/compression.py)."""
LIST_ETAG = {"ETag": {"description": "Another one when the content is another", "schema": {"type": "string"}}}

EXAMPLE_CALENDAR = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VTODO\r\nSUMMARY:Water the plants\r\n..."


def _links(*operations: str) -> dict[str, Any]:
    """OpenAPI links: the id in the answer is the id of these operations."""
    return {
        operation: {"operationId": operation, "parameters": {"task_id": "$response.body#/id"}}
        for operation in operations
    }


OTHERS = ("get_task", "update_task", "delete_task", "undelete_task")


@router.post(
    "",
    summary="Create a task",
    status_code=status.HTTP_201_CREATED,
    response_model=Task,
    responses={
        201: {
            "description": "The task",
            "headers": {
                **ETAG,
                "Location": {"description": "The task's path", "schema": {"type": "string"}},
                "Idempotency-Replayed": {
                    "description": "`true` where this is the answer to an earlier request under the same key",
                    "schema": {"type": "string"},
                },
            },
            "links": _links(*OTHERS),
        },
        **problem_responses(400, *AUTH, *BODY, 409, 422, 503),
    },
)
async def create_task(
    request: Request,
    caller: Writer,
    store: StoreDependency,
    new: Annotated[NewTask, Body(openapi_examples={"task": {"value": EXAMPLE}})],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """With an `Idempotency-Key` it is safe to send again, whatever became of the first time."""
    key = request_key(request, idempotency_key, caller.subject, new)
    answered, task_id, version = await commands.create(store, new, key)
    headers = {
        "Location": f"{request.scope['root_path']}{router.prefix}/{task_id}",
        "ETag": etag(version),
        **replayed_header(answered),
    }
    return Json(answered.body.encode(), answered.status, headers)


@dataclass(frozen=True)
class Listing:
    """Which tasks are asked for, and in what order."""

    filters: Filters
    order: tuple[Order, ...]


def _moment(time: datetime | date | None) -> datetime | None:
    """A moment in UTC; a day stands for its first one."""
    if time is None or isinstance(time, datetime):
        return time
    return datetime(time.year, time.month, time.day, tzinfo=UTC)


def _filters(
    *,
    status: Annotated[list[Status], Query(description="Any of these")] = [],
    not_status: Annotated[list[Status], Query(description="None of these")] = [],
    priority: Annotated[list[Priority], Query(description="Any of these")] = [],
    label: Annotated[list[ExactName], Query(max_length=20, description="All of these")] = [],
    project: Annotated[ExactName | None, Query(description="Of this project")] = None,
    parent: Annotated[UUID | None, Query(description="Part of this task")] = None,
    assignee: Annotated[ExactName | None, Query(description="Done by")] = None,
    without: Annotated[list[Owner], Query(description="Has none of these")] = [],
    due_before: Annotated[Time | Day | None, Query(description="Due before this moment or day")] = None,
    due_after: Annotated[Time | Day | None, Query(description="Due at this moment or day, or after it")] = None,
    updated_since: Annotated[Time | Day | None, Query(description="Changed then or later")] = None,
    created_before: Annotated[Time | Day | None, Query(description="Created before this moment or day")] = None,
    created_after: Annotated[Time | Day | None, Query(description="Created at this moment or day, or after it")] = None,
    completed_before: Annotated[Time | Day | None, Query(description="Completed before this moment or day")] = None,
    completed_after: Annotated[
        Time | Day | None, Query(description="Completed at this moment or day, or after it")
    ] = None,
    q: Annotated[
        str | None,
        Query(
            max_length=200,
            pattern=NO_NUL,
            description="Has all these words in title or description, whole and in any case",
        ),
    ] = None,
    prefix: Annotated[
        str | None,
        Query(
            max_length=200,
            pattern=NO_NUL,
            description="Each word of this begins a word of title or description: search while one types",
        ),
    ] = None,
    deleted: Annotated[
        bool, Query(description="The deleted tasks, which can still be undeleted, instead of the others")
    ] = False,
) -> Filters:
    searched = None if q is None else words(q)
    if not_status:
        status = sorted(frozenset(status or Status) - frozenset(not_status))
        if not status:
            searched = frozenset()  # of which nothing is found
    return Filters(
        status=frozenset(status),
        priority=frozenset(priority),
        label=frozenset(label),
        project=project,
        parent=parent,
        assignee=assignee,
        due_before=_moment(due_before),
        due_after=_moment(due_after),
        updated_since=_moment(updated_since),
        words=searched,
        deleted=deleted,
        without=frozenset(without),
        created_before=_moment(created_before),
        created_after=_moment(created_after),
        completed_before=_moment(completed_before),
        completed_after=_moment(completed_after),
        prefixes=None if prefix is None else words(prefix),
    )


FiltersDependency = Annotated[Filters, Depends(_filters)]


def _listing(
    *,
    filters: FiltersDependency,
    sort: Annotated[
        str,
        Query(max_length=200, pattern=SORT_PATTERN, description="Keys in their order of weight; `-` turns one round"),
    ] = "-created_at",
) -> Listing:
    return Listing(filters, read_order(sort))


ListingDependency = Annotated[Listing, Depends(_listing)]


@router.get(
    "",
    summary="List tasks",
    response_model=TaskPage,
    responses={
        200: {
            "headers": {
                **LIST_ETAG,
                "Link": {
                    "description": '`<...>; rel="next"`: the next page, where there is one',
                    "schema": {"type": "string"},
                },
            },
        },
        304: {"description": "The page still has this ETag", "headers": LIST_ETAG},
        **problem_responses(400, *AUTH, 422, 503),
    },
)
async def list_tasks(
    request: Request,
    _caller: Reader,
    store: StoreDependency,
    listing: ListingDependency,
    page_size: Annotated[
        int, Query(ge=1, description=f"How many to return; more than {MAX_PAGE_SIZE} is lowered to {MAX_PAGE_SIZE}")
    ] = DEFAULT_PAGE_SIZE,
    cursor: Annotated[
        str | None,
        Query(max_length=4000, description="`next_cursor` of the page before; only for the same filters and order"),
    ] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """A page at a time, the newest first unless `sort` says otherwise.

    A page of large tasks has fewer than were asked for, so that it has at most 1 MiB: only a `next_cursor` of null says
    that it is the last.
    """
    if cursor is None:
        _understand(request.scope["query_string"], listing, page_size)
    size = min(page_size, MAX_PAGE_SIZE)
    query = TaskQuery(listing.filters, listing.order)
    if cursor is not None:
        try:
            query = replace(query, after=read_cursor(query, cursor))
        except WrongCursor as error:
            raise Problem(400, str(error), type="invalid-cursor") from None
    found = await store.page_json(query, size=size + 1)  # one more than asked for tells whether there is a next page
    following = None

    def write(some: Sequence[TaskJson]) -> bytes:
        nonlocal following
        following = None
        if len(some) < len(found):
            following = write_cursor(query, Task.model_validate_json(some[-1][1]))
        # TaskPage, written here: FastAPI would validate all tasks once more before it turns them into JSON.
        cursor = b"null" if following is None else b'"%b"' % following.encode()
        return b'{"items":[%b],"next_cursor":%b}' % (b",".join([content for _, content in some]), cursor)

    content = fitting(found[:size], write)
    headers = {"ETag": list_etag(found[:size], content), **PACKED}
    if is_known(headers["ETag"], if_none_match):
        return Response(status_code=304, headers=headers)
    if following is None:
        return Json(content, 200, headers)
    # The parameters as they were sent, but for the cursor.
    sent = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    said = [pair for pair in sent if pair[0] != "cursor"]
    url = f"{request.url.path}?{urlencode([*said, ('cursor', following)])}"
    return Json(content, 200, {**headers, "Link": f'<{url}>; rel="next"'})


@router.get(
    ".ics",
    summary="Export tasks to a calendar",
    response_class=Response,
    dependencies=[Depends(Basic())],
    responses={
        200: {
            "content": {"text/calendar": {"schema": {"type": "string"}, "example": EXAMPLE_CALENDAR}},
            "description": "A VCALENDAR with a VTODO for each task (RFC 5545)",
            "headers": LIST_ETAG,
        },
        304: {"description": "The calendar still has this ETag", "headers": LIST_ETAG},
        **problem_responses(*AUTH, 400, 422, 503),
    },
)
async def export_tasks(
    _caller: CalendarReader, store: StoreDependency, listing: ListingDependency, if_none_match: IfNoneMatch = None
) -> Response:
    """The tasks of a list as VTODOs (RFC 5545), at most 5,000 and 4 MiB.

    Calendar programs may send the token as the password of HTTP Basic, with any name.
    They are read page by page: sorted by what changes meanwhile, a task that moves may be missed or be there twice.
    """
    try:
        calendar = await commands.export(store, TaskQuery(listing.filters, listing.order))
    except commands.TooMuch as error:
        detail = f"{error} Choose fewer, for example by project or by due_after."
        raise Problem(422, detail, type="too-many-tasks") from None
    headers = {"ETag": content_etag(calendar), **PACKED}
    if is_known(headers["ETag"], if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(calendar, headers=headers, media_type="text/calendar; charset=utf-8")


@router.get(
    "/{task_id:uuid}",
    summary="Get a task",
    response_model=Task,
    responses={
        200: {"headers": ETAG, "links": _links(*OTHERS)},
        304: {"description": "The task still has this ETag", "headers": ETAG},
        **problem_responses(400, *AUTH, 404, 412, 503),
    },
)
async def get_task(
    _caller: Reader,
    task_id: TaskId,
    store: StoreDependency,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """With `If-None-Match` a task that is known already is not sent again."""
    task = await commands.get(store, task_id)
    if if_match is not None:  # comes first (RFC 9110, section 13.2.2)
        expectation(if_match)(task)
    headers = {"ETag": etag(task.version), **CACHED}
    if is_known(headers["ETag"], if_none_match):
        return Response(status_code=304, headers=headers)
    return Json(to_json(task), 200, headers)


@router.patch(
    "/{task_id:uuid}",
    summary="Change a task",
    response_model=Task,
    responses={
        200: {"headers": ETAG, "links": _links(*OTHERS)},
        **problem_responses(400, *AUTH, *BODY, 404, 409, 412, 422, 503),
    },
    openapi_extra={
        "requestBody": {
            "content": {
                "application/merge-patch+json": {
                    "schema": {"$ref": "#/components/schemas/TaskPatch"},
                    "examples": {"done": {"value": {"status": "done"}}},
                }
            }
        }
    },
)
async def update_task(
    request: Request,
    caller: Writer,
    task_id: TaskId,
    store: StoreDependency,
    patch: Annotated[TaskPatch, Body(openapi_examples={"done": {"value": {"status": "done"}}})],
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """What the patch leaves out stays as it is, and `null` clears. With `If-Match` only if nobody else changed it.

    A recurring task that becomes `done` is followed by its next occurrence, a task of its own: `followed_by` is its id.
    When it is opened again, that one is deleted and the rule comes back, unless somebody changed that one meanwhile.
    """
    key = request_key(request, idempotency_key, caller.subject, patch)
    return _updated(*await commands.change(store, task_id, patch, expectation(if_match, if_none_match), key))


@router.delete(
    "/{task_id:uuid}",
    summary="Delete a task",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(400, *AUTH, 404, 409, 412, 503),
)
async def delete_task(
    request: Request,
    caller: Writer,
    task_id: TaskId,
    store: StoreDependency,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """For 30 days it can be undeleted."""
    key = request_key(request, idempotency_key, caller.subject, None)
    answered = await commands.delete(store, task_id, expectation(if_match, if_none_match), key)
    return Response(status_code=204, headers=replayed_header(answered))


@router.post(
    "/{task_id:uuid}:undelete",
    summary="Bring a deleted task back",
    response_model=Task,
    responses={
        200: {"headers": ETAG, "links": _links("get_task")},
        **problem_responses(400, *AUTH, 404, 409, 412, 503),
    },
)
async def undelete_task(
    request: Request,
    caller: Writer,
    task_id: TaskId,
    store: StoreDependency,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """One that is not deleted stays as it is."""
    key = request_key(request, idempotency_key, caller.subject, None)
    return _updated(*await commands.undelete(store, task_id, expectation(if_match, if_none_match), key))


@router.post(
    ":batch",
    summary="Create, change and delete many tasks",
    status_code=status.HTTP_207_MULTI_STATUS,
    response_model=BatchAnswer,
    responses={
        207: {"description": "What became of each item, in their order"},
        **problem_responses(400, *AUTH, *BODY, 409, 422, 503),
    },
)
async def batch_tasks(
    request: Request,
    caller: Writer,
    store: StoreDependency,
    asked: Annotated[
        Batch,
        Body(openapi_examples={"two": {"value": {"atomic": True, "items": [{"action": "create", "task": EXAMPLE}]}}}),
    ],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Up to 100 in one transaction.

    Each item has a status of its own. With `atomic` one that cannot be done undoes the others (424).
    """
    answered = await commands.batch(store, asked, request_key(request, idempotency_key, caller.subject, asked))
    return Json(answered.body.encode(), answered.status, replayed_header(answered))


MAX_UNDERSTOOD, MAX_UNDERSTOOD_BYTES = 1000, 500
understood: dict[bytes, tuple[Listing, int]] = {}
"""What query strings of lists without a cursor mean. Clients send a few again and again; tasks/direct.py reads it."""


def _understand(query_string: bytes, listing: Listing, page_size: int) -> None:
    if len(understood) >= MAX_UNDERSTOOD:
        understood.clear()
    if len(query_string) <= MAX_UNDERSTOOD_BYTES:
        understood[query_string] = listing, page_size


class Json(Response):
    """JSON that is there already. Response itself looks through the headers for those that it would add: 7 of the
    130 µs of CPU of a GET."""

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str]) -> None:
        self.body = body
        self.status_code = status
        self.background = None
        self.raw_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
        ]
        self.raw_headers += [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]


def _updated(answered: Answered, version: int) -> Response:
    headers = {"ETag": etag(version), **replayed_header(answered)}
    return Json(answered.body.encode(), answered.status, headers)
