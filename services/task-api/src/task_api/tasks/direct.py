"""The three requests that come most often, past FastAPI's routing and dependencies: a task, a new task, a list.

They are answered by the functions of routes.py, called here with what FastAPI would have found out for them. So,
through the application on the memory store, a GET takes an eighth of the CPU, a POST a fifth, a list of one task a
twentieth. What is not plain is left to FastAPI: a conditional request, an Idempotency-Key, a body that does not
validate, a query string that was not understood before, and everything while traces are sent. There is one place that
says what is wrong with a request, and that is the routes; the OpenAPI document is made there too.
"""

from __future__ import annotations

import re
from uuid import UUID

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from task_api.auth import requires
from task_api.body import replay, whole_body
from task_api.tasks import routes
from task_api.tasks.models import NewTask

TASKS = routes.router.prefix
TASK = re.compile(TASKS + r"/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")
NEXT_PAGE = re.compile(rb"(?:(.*)&)?cursor=([A-Za-z0-9_-]{1,4000})")
LEFT_TO_FASTAPI = {b"if-none-match", b"idempotency-key"}

_reader, _writer = requires("read"), requires("write")


def add_to(app: FastAPI) -> None:
    """Puts them in front of all other routes."""
    app.router.routes.insert(0, Direct())


class Direct(BaseRoute):
    def __init__(self) -> None:
        # What metrics and log call the route.
        self._routes = {route.name: route for route in routes.router.routes if isinstance(route, APIRoute)}

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether the request is one of them, and plain."""
        if scope["type"] != "http" or "direct" in scope or "fastapi.telemetry" in scope:
            return Match.NONE, {}
        method, path = scope["method"], scope["path"].removeprefix(scope["root_path"])
        name, answer = "", None
        if method == "GET" and path == TASKS:
            name, answer = "list_tasks", _list(scope["query_string"])
        elif method == "GET" and (found := TASK.fullmatch(path)):
            name, answer = "get_task", _get(found[1])
        elif method == "POST" and path == TASKS and (b"content-type", b"application/json") in scope["headers"]:
            name, answer = "create_task", _create
        if answer is None or any(header in LEFT_TO_FASTAPI for header, _ in scope["headers"]):
            return Match.NONE, {}
        return Match.FULL, {"route": self._routes[name], "direct": answer}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers it. What is raised becomes a problem where that of every other route does."""
        await scope["direct"](scope, receive, send)


def _get(task_id: str) -> ASGIApp:
    async def get(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        response = await routes.get_task(await _reader(request), UUID(task_id), request.app.state.store)
        await response(scope, receive, send)

    return get


def _list(query_string: bytes) -> ASGIApp | None:
    cursor = None
    if found := NEXT_PAGE.fullmatch(query_string):
        query_string, cursor = found[1] or b"", found[2].decode()
    understood = routes.understood.get(query_string)
    if understood is None:
        return None
    listing, page_size = understood

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        caller, store = await _reader(request), request.app.state.store
        response = await routes.list_tasks(request, caller, store, listing, page_size, cursor)
        await response(scope, receive, send)

    return answer


async def _create(scope: Scope, receive: Receive, send: Send) -> None:
    body = await whole_body(receive)
    try:
        new = NewTask.model_validate_json(body)
    except ValidationError:  # before the caller is asked for: FastAPI does it, and a rate limit counts each time
        await scope["router"].app(scope, replay(body, receive), send)
        return
    request = Request(scope)
    response = await routes.create_task(request, await _writer(request), request.app.state.store, new)
    await response(scope, receive, send)
