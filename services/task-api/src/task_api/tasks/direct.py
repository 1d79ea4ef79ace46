"""The three requests that come most often, past FastAPI and Starlette: a task, a new task, a list.

They are answered by the functions of routes.py, called here with what FastAPI would have found out for them. Behind
Starlette's own layers a GET on PostgreSQL took 117 µs of CPU, before them 104, a POST 168 and 150. What is not plain is
left to FastAPI: a conditional request, a body or an Idempotency-Key that does not validate, a query string that was not
understood before, and everything while traces are sent. There is one place that says what is wrong with a request, and
that is the routes; the OpenAPI document is made there too.
"""

from __future__ import annotations

import re
from uuid import UUID

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from chassis.auth import requires
from chassis.body import ClientGone, read_received_body, replay
from task_api.tasks import routes
from task_api.tasks.idempotency import KEY_PATTERN
from task_api.tasks.models import NewTask

TASKS = routes.router.prefix
TASK = re.compile(TASKS + r"/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")
NEXT_PAGE = re.compile(rb"(?:(.*)&)?cursor=([A-Za-z0-9_-]{1,4000})")
JSON = (b"content-type", b"application/json")
LEFT_TO_FASTAPI = {b"if-match", b"if-none-match", b"content-encoding"}
KEY = re.compile(KEY_PATTERN)

_reader, _writer = requires("read"), requires("write")


class Direct:
    """Pure ASGI. rest: the application behind it, for all other requests."""

    def __init__(self, app: FastAPI, rest: ASGIApp) -> None:
        self._problems = app.exception_handlers
        self._rest = rest
        # What metrics and log call the route.
        self._routes = {route.name: route for route in routes.router.routes if isinstance(route, APIRoute)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name, response = "", None
        if scope["type"] == "http" and _is_plain(scope):
            request, path = Request(scope), scope["path"].removeprefix(scope["root_path"])
            if scope["method"] == "GET" and (found := TASK.fullmatch(path)) and not scope["query_string"]:
                name, response = "get_task", _get(request, UUID(found[1]))
            elif scope["method"] == "GET" and path == TASKS and (asked := _understood(scope["query_string"])):
                name, response = "list_tasks", _list(request, *asked)
            elif scope["method"] == "POST" and path == TASKS and JSON in scope["headers"] and not scope["query_string"]:
                keys = [value.decode("latin-1") for header, value in scope["headers"] if header == b"idempotency-key"]
                if not keys or (len(keys) == 1 and KEY.fullmatch(keys[0])):
                    try:
                        body = await read_received_body(receive)
                    except ClientGone:
                        return
                    try:
                        name, response = "create_task", _create(request, NewTask.model_validate_json(body), *keys)
                    except ValidationError:  # the caller was not asked for yet: a rate limit counts each time
                        receive = replay(body, receive)
        if response is None:
            await self._rest(scope, receive, send)
            return
        scope["route"] = self._routes[name]
        try:
            answer = await response
        except Exception as error:
            # The problem that it is for every other route.
            problem = next((self._problems[kind] for kind in type(error).__mro__ if kind in self._problems), None)
            if problem is None:
                raise
            said = problem(request, error)
            answer = said if isinstance(said, Response) else await said
        await answer(scope, receive, send)


def _is_plain(scope: Scope) -> bool:
    return "fastapi.telemetry" not in scope and not any(header in LEFT_TO_FASTAPI for header, _ in scope["headers"])


def _understood(query_string: bytes) -> tuple[routes.Listing, int, str | None] | None:
    """What it asks for, where a query string like it came before: the list, the size of its pages, the cursor."""
    cursor = None
    if found := NEXT_PAGE.fullmatch(query_string):
        query_string, cursor = found[1] or b"", found[2].decode()
    understood = routes.understood.get(query_string)
    return None if understood is None else (*understood, cursor)


async def _get(request: Request, task_id: UUID) -> Response:
    return await routes.get_task(await _reader(request), task_id, request.app.state.store)


async def _list(request: Request, listing: routes.Listing, page_size: int, cursor: str | None) -> Response:
    caller, store = await _reader(request), request.app.state.store
    return await routes.list_tasks(request, caller, store, listing, page_size, cursor)


async def _create(request: Request, new: NewTask, key: str | None = None) -> Response:
    return await routes.create_task(request, await _writer(request), request.app.state.store, new, key)
