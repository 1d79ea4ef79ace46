"""Serves the three most frequent requests in front of FastAPI: get a task, list tasks, create a task.

A simple, valid request is passed to its function in routes.py, with the arguments that FastAPI would have resolved. All
others fall back to FastAPI: conditional requests, a body or an Idempotency-Key that does not validate, a query string
that is not in the cache, and everything while traces are sent. So only FastAPI and the routes report what is wrong with
a request. Paths and methods are the router's, and errors go to the application's exception handlers.

Behind Starlette's middleware a GET on PostgreSQL took 117 µs of CPU, in front of it 104, a POST 168 and 150.
"""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette._exception_handler import _lookup_exception_handler
from starlette.types import ASGIApp, Receive, Scope, Send

from chassis.auth import requires
from chassis.body import ClientGone, read_received_body, replay
from task_api.store import Store
from task_api.tasks import routes
from task_api.tasks.idempotency import KEY_PATTERN
from task_api.tasks.models import NewTask

_ROUTES = {route.endpoint: route for route in routes.router.routes if isinstance(route, APIRoute)}
GET_TASK, LIST_TASKS, CREATE_TASK = (
    _ROUTES[endpoint] for endpoint in (routes.get_task, routes.list_tasks, routes.create_task)
)
NEXT_PAGE = re.compile(rb"(?:(.*)&)?cursor=([A-Za-z0-9_-]{1,4000})")
JSON = b"application/json"
FALLBACK_HEADERS = {b"if-match", b"if-none-match", b"content-encoding"}
"""Requests with one of these fall back to FastAPI."""
KEY = re.compile(KEY_PATTERN)

_reader, _writer = requires("read"), requires("write")


class FastPath:
    """ASGI middleware. fallback: the application that serves all other requests."""

    def __init__(self, app: FastAPI, fallback: ASGIApp) -> None:
        self._fallback = fallback
        self._parsed_queries: routes.ParsedQueryCache = app.state.parsed_queries
        self._exception_handlers: dict[Any, Any] = app.exception_handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pending = None
        if scope["type"] == "http" and _is_eligible(scope):
            request, path = Request(scope), scope["path"].removeprefix(scope["root_path"])
            methods, query = {scope["method"]}, scope["query_string"]
            # A path without parameters is compared, not matched: that saves a call.
            if path == LIST_TASKS.path and methods == LIST_TASKS.methods and (parsed := self._parse(query)):
                scope["route"], pending = LIST_TASKS, _list(request, *parsed)
            elif methods == GET_TASK.methods and not query and (found := GET_TASK.path_regex.match(path)):
                scope["route"], pending = GET_TASK, _get(request, UUID(found["task_id"]))
            elif path == CREATE_TASK.path and methods == CREATE_TASK.methods and not query:
                types: list[bytes] = []
                keys: list[str] = []
                for header, value in scope["headers"]:
                    if header == b"content-type":
                        types += [value]
                    elif header == b"idempotency-key":
                        keys += [value.decode("latin-1")]
                if types == [JSON] and (not keys or (len(keys) == 1 and KEY.fullmatch(keys[0]))):
                    try:
                        body = await read_received_body(receive)
                    except ClientGone:
                        return
                    try:
                        new = NewTask.model_validate_json(body)
                        scope["route"], pending = CREATE_TASK, _create(request, new, *keys)
                    except ValidationError:  # before authentication, so the rate limit counts the request only once
                        receive = replay(body, receive)
        if pending is None:
            await self._fallback(scope, receive, send)
            return
        try:
            response = await pending
        except Exception as error:
            # As ExceptionMiddleware does; raised again within that, a 404 from memory took 27 µs of CPU instead of 23.
            handler: Any = _lookup_exception_handler(self._exception_handlers, error)
            if handler is None:
                raise
            response = await handler(request, error)
        await response(scope, receive, send)

    def _parse(self, query_string: bytes) -> tuple[routes.ListParams, int, str | None] | None:
        """The list, the page size and the cursor, if the query string without its cursor is in the cache."""
        cursor = None
        if found := NEXT_PAGE.fullmatch(query_string):
            query_string, cursor = found[1] or b"", found[2].decode()
        parsed = self._parsed_queries.get(query_string)
        return None if parsed is None else (*parsed, cursor)


def _is_eligible(scope: Scope) -> bool:
    for header, _ in scope["headers"]:  # `any` with a generator takes 1 µs more
        if header in FALLBACK_HEADERS:
            return False
    return "fastapi.telemetry" not in scope


async def _get(request: Request, task_id: UUID) -> Response:
    caller = await _reader(request)
    store: Store = request.app.state.store
    if (found := await store.get_json(task_id)) is None:
        return await routes.get_task(caller, task_id, store)  # says why it is not found
    return routes.task_response(*found)


async def _list(request: Request, params: routes.ListParams, page_size: int, cursor: str | None) -> Response:
    await _reader(request)
    return await routes.list_page(request, request.app.state.store, params, page_size, cursor)


async def _create(request: Request, new: NewTask, key: str | None = None) -> Response:
    return await routes.create_task(request, await _writer(request), request.app.state.store, new, key)
