"""Serves the three most frequent requests without FastAPI and Starlette: get a task, create a task, list tasks.

It calls the functions of routes.py with the arguments that FastAPI would have resolved. Inside Starlette's layers a GET
on PostgreSQL took 117 µs of CPU, in front of them 104, a POST 168 and 150. All other requests fall back to FastAPI:
conditional requests, a body or an Idempotency-Key that does not validate, a query string that is not in the cache, and
everything while traces are sent. So only the routes report errors in a request, and they define the OpenAPI document.
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
FALLBACK_HEADERS = {b"if-match", b"if-none-match", b"content-encoding"}
"""Requests with one of these fall back to FastAPI."""
KEY = re.compile(KEY_PATTERN)

_reader, _writer = requires("read"), requires("write")


class FastPath:
    """ASGI middleware. fallback: the application that serves all other requests."""

    def __init__(self, app: FastAPI, fallback: ASGIApp) -> None:
        self._exception_handlers = app.exception_handlers
        self._fallback = fallback
        self._parsed_queries: routes.ParsedQueryCache = app.state.parsed_queries
        # The route's name in metrics and logs.
        self._routes = {route.name: route for route in routes.router.routes if isinstance(route, APIRoute)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name, pending = "", None
        if scope["type"] == "http" and _is_eligible(scope):
            request, path = Request(scope), scope["path"].removeprefix(scope["root_path"])
            if scope["method"] == "GET" and (found := TASK.fullmatch(path)) and not scope["query_string"]:
                name, pending = "get_task", _get(request, UUID(found[1]))
            elif scope["method"] == "GET" and path == TASKS and (parsed := self._parse(scope["query_string"])):
                name, pending = "list_tasks", _list(request, *parsed)
            elif scope["method"] == "POST" and path == TASKS and JSON in scope["headers"] and not scope["query_string"]:
                keys = [value.decode("latin-1") for header, value in scope["headers"] if header == b"idempotency-key"]
                if not keys or (len(keys) == 1 and KEY.fullmatch(keys[0])):
                    try:
                        body = await read_received_body(receive)
                    except ClientGone:
                        return
                    try:
                        name, pending = "create_task", _create(request, NewTask.model_validate_json(body), *keys)
                    except ValidationError:  # before authentication, so the rate limit counts the request only once
                        receive = replay(body, receive)
        if pending is None:
            await self._fallback(scope, receive, send)
            return
        scope["route"] = self._routes[name]
        try:
            response = await pending
        except Exception as error:
            # The same problem response as on every other route.
            handlers = self._exception_handlers
            handler = next((handlers[kind] for kind in type(error).__mro__ if kind in handlers), None)
            if handler is None:
                raise
            handled = handler(request, error)
            response = handled if isinstance(handled, Response) else await handled
        await response(scope, receive, send)

    def _parse(self, query_string: bytes) -> tuple[routes.ListParams, int, str | None] | None:
        """The list, the page size and the cursor, if the query string without its cursor is in the cache."""
        cursor = None
        if found := NEXT_PAGE.fullmatch(query_string):
            query_string, cursor = found[1] or b"", found[2].decode()
        parsed = self._parsed_queries.get(query_string)
        return None if parsed is None else (*parsed, cursor)


def _is_eligible(scope: Scope) -> bool:
    return "fastapi.telemetry" not in scope and not any(header in FALLBACK_HEADERS for header, _ in scope["headers"])


async def _get(request: Request, task_id: UUID) -> Response:
    return await routes.get_task(await _reader(request), task_id, request.app.state.store)


async def _list(request: Request, params: routes.ListParams, page_size: int, cursor: str | None) -> Response:
    await _reader(request)
    return await routes.list_page(request, request.app.state.store, params, page_size, cursor)


async def _create(request: Request, new: NewTask, key: str | None = None) -> Response:
    return await routes.create_task(request, await _writer(request), request.app.state.store, new, key)
