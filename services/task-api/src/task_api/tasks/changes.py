"""/v1/changes: what changed, in pages or as Server-Sent Events."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from fastapi import Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic.config import JsonDict

from chassis.problems import Problem, problem_responses
from chassis.routes import Router
from task_api.store import ChangesPurged, OtherHistory, StoredChange, WrongPosition
from task_api.tasks.dependencies import Reader, StoreDependency
from task_api.tasks.feed import CHUNK, Feed
from task_api.tasks.models import Change, ChangePage, to_json
from task_api.tasks.pages import fitting

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 500
RETRY_MILLISECONDS = 2000

# Tells readers, and the tests that make up requests, that not every text is a position.
FORMAT: JsonDict = {"format": "place-in-feed"}

router = Router(prefix="/v1/changes", tags=["changes"])


@router.get(
    "",
    summary="Follow what changes",
    response_model=ChangePage,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "The changes"},
        **problem_responses(400, 401, 403, 410, 422, 429, 503),
    },
)
async def list_changes(
    request: Request,
    _caller: Reader,
    store: StoreDependency,
    since: Annotated[
        str | None,
        Query(
            max_length=100, description="`next_since` of the answer before, or `now`. Without it: from the beginning"
        ),
    ] = None,
    page_size: Annotated[
        int, Query(ge=1, description=f"How many to return; more than {MAX_PAGE_SIZE} is lowered to {MAX_PAGE_SIZE}")
    ] = DEFAULT_PAGE_SIZE,
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            max_length=100,
            json_schema_extra=FORMAT,
            description="Where a stream goes on: the id of the last event that arrived",
        ),
    ] = None,
) -> Response:
    """Each change of each task, in an order in which none is ever missed.

    Ask again with `next_since`, or send `Accept: text/event-stream` and get them as they come. A page of large tasks
    has fewer than were asked for, so that it has at most 1 MiB. Changes are kept for 30 days; a reader that comes later
    is told so (410), and begins again with a list. So is one whose last change is gone since the storage was restored.
    """
    headers = {"Vary": "Accept", "Cache-Control": "no-store"}
    streams = "text/event-stream" in request.headers.get("accept", "")
    start = last_event_id or since
    after = await store.last_position() if start == "now" else None if start is None else _position(start)
    try:
        changes = await store.changes(after, size=min(page_size, CHUNK if streams else MAX_PAGE_SIZE))
    except WrongPosition:
        raise _wrong_since() from None
    except ChangesPurged:
        detail = "What changed since then is not kept any more. List the tasks, and follow from `since=now`."
        raise Problem(410, detail, type="changes-purged") from None
    except OtherHistory:
        detail = (
            "The change that this stands for is gone: the storage was restored to an earlier state, or lost its last "
            "changes in a failover. Ask for `since=now`, list the tasks, and follow from the `next_since` of the first."
        )
        raise Problem(410, detail, type="other-history") from None
    if streams:
        feed: Feed = request.app.state.feed
        events = _events(changes, feed, after)
        return StreamingResponse(events, media_type="text/event-stream", headers={**headers, "X-Accel-Buffering": "no"})
    unmoved = "" if changes else after if after is not None else await store.last_position()

    def write(some: Sequence[StoredChange]) -> bytes:
        last = some[-1].position if some else unmoved
        return to_json(ChangePage.model_construct(items=[_change(change) for change in some], next_since=_token(last)))

    return Response(fitting(changes, write), media_type="application/json", headers=headers)


async def _events(first: Sequence[StoredChange], feed: Feed, after: str | None) -> AsyncIterator[str]:
    # Lines without a blank one behind them: that ends an event, and some clients hand one without data over as a change
    # (findings/httpx-sse-empty-events.sh).
    yield f"retry: {RETRY_MILLISECONDS}\n"
    for stored in first:
        yield _event(stored)
    async for changes in feed.follow(first[-1].position if first else after):
        if not changes:
            yield ": still there\n"
        for stored in changes:
            yield _event(stored)


def _event(stored: StoredChange) -> str:
    change = _change(stored)
    return f"id: {change.id}\nevent: {change.type}\ndata: {change.model_dump_json()}\n\n"


def _change(stored: StoredChange) -> Change:
    return Change(id=_token(stored.position), type=stored.type, task=stored.task)


def _token(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def _position(token: str) -> str:
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise _wrong_since() from None


def _wrong_since() -> Problem:
    detail = "`since` takes a `next_since` or the id of a change of this service, or `now`."
    return Problem(400, detail, type="invalid-since")
