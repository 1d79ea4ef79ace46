"""/v1/changes: the change feed, in pages or as Server-Sent Events."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Annotated

from fastapi import Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic.config import JsonDict

from chassis.problems import Problem, problem_responses
from chassis.routes import Router
from task_api.store import ChangesPurged, InvalidFeedCursor, OtherHistory, StoredChange
from task_api.tasks.dependencies import Reader, StoreDependency, reader
from task_api.tasks.feed import CHUNK, Feed
from task_api.tasks.models import UNDELETE_DAYS, Change, ChangePage, to_json
from task_api.tasks.pages import fit_page

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 500
RETRY_MILLISECONDS = 2000
RECHECK_SECONDS = 5.0
"""How long a stream may continue after its token has expired or was revoked; while there are no changes, until the next
heartbeat."""

# Documents, also for generated requests in tests, that not every string is a valid cursor.
FORMAT: JsonDict = {"format": "place-in-feed"}

router = Router(prefix="/v1/changes", tags=["changes"])


@router.get(
    "",
    summary="Follow changes",
    description=f"""Every change of every task, in an order in which readers miss none.

Request the next page with `next_since`, or send `Accept: text/event-stream` to receive changes as they happen. A page
is at most 1 MiB, so with large tasks it has fewer than `page_size` items. Changes are kept for {UNDELETE_DAYS} days; a
reader that comes later gets a 410 and has to start over with a list. So does one whose last change was lost when the
storage was restored.""",
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
            max_length=100, description="`next_since` of the previous response, or `now`. By default from the beginning"
        ),
    ] = None,
    page_size: Annotated[
        int,
        Query(
            ge=1, description=f"Maximum number of items; values above {MAX_PAGE_SIZE} are lowered to {MAX_PAGE_SIZE}"
        ),
    ] = DEFAULT_PAGE_SIZE,
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            max_length=100,
            json_schema_extra=FORMAT,
            description="Resumes a stream: the id of the last event received",
        ),
    ] = None,
) -> Response:
    headers = {"Vary": "Accept", "Cache-Control": "no-store"}
    streams = "text/event-stream" in request.headers.get("accept", "")
    start = last_event_id or since
    # From which a reader continues that gets no changes. Read before them, so that it misses none made in between.
    continuation = await store.last_cursor() if start in (None, "now") else _decode_cursor(start)
    after = None if start is None else continuation
    try:
        changes = await store.changes(after, size=min(page_size, CHUNK if streams else MAX_PAGE_SIZE))
    except InvalidFeedCursor:
        raise _invalid_since() from None
    except ChangesPurged:
        detail = "Changes after this point were purged. List the tasks, and follow from `since=now`."
        raise Problem(410, detail, type="changes-purged") from None
    except OtherHistory:
        detail = (
            "This change no longer exists: the storage was restored to an earlier state, or lost its last changes in a "
            "failover. Request `since=now`, list the tasks, and follow from the `next_since` of the first response."
        )
        raise Problem(410, detail, type="other-history") from None
    if streams:
        feed: Feed = request.app.state.feed
        events = _events(changes, feed, after, partial(reader.still_allows, request))
        return StreamingResponse(events, media_type="text/event-stream", headers={**headers, "X-Accel-Buffering": "no"})

    def write(some: Sequence[StoredChange]) -> bytes:
        last = some[-1].cursor if some else continuation
        items = [_change(change) for change in some]
        return to_json(ChangePage.model_construct(items=items, next_since=_encode_cursor(last)))

    return Response(fit_page(changes, write), media_type="application/json", headers=headers)


async def _events(
    first: Sequence[StoredChange], feed: Feed, after: str | None, still_allowed: Callable[[], Awaitable[bool]]
) -> AsyncIterator[str]:
    # No blank line after it: that would end an event, and some clients deliver one without data as a change
    # (findings/httpx-sse-empty-events.sh).
    yield f"retry: {RETRY_MILLISECONDS}\n"
    for stored in first:
        yield _event(stored)
    checked_at = time.monotonic()
    async with aclosing(feed.follow(first[-1].cursor if first else after)) as following:
        async for changes in following:
            if time.monotonic() - checked_at >= RECHECK_SECONDS:
                if not await still_allowed():
                    return
                checked_at = time.monotonic()
            if not changes:
                yield ": still there\n"
            for stored in changes:
                yield _event(stored)


def _event(stored: StoredChange) -> str:
    change = _change(stored)
    return f"id: {change.id}\nevent: {change.type}\ndata: {change.model_dump_json()}\n\n"


def _change(stored: StoredChange) -> Change:
    return Change(id=_encode_cursor(stored.cursor), type=stored.type, task=stored.task)


def _encode_cursor(cursor: str) -> str:
    return base64.urlsafe_b64encode(cursor.encode()).decode().rstrip("=")


def _decode_cursor(token: str) -> str:
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode("ascii")
    except ValueError:
        raise _invalid_since() from None


def _invalid_since() -> Problem:
    detail = "`since` must be a `next_since` or a change id of this service, or `now`."
    return Problem(400, detail, type="invalid-since")
