"""What a request costs, counted and not timed: the same on every machine, however busy it is.

`make bench` has the times. These bounds are what was counted when they were written and a tenth of it: a layer more on
the way of every request does not fit in.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from types import FrameType

import pytest
from fastapi import FastAPI
from starlette.types import Message, Scope

from task_api.app import create_app
from task_api.settings import Settings

NEW = b'{"title":"Water the plants","priority":"high","due_on":"2026-12-01","labels":["home"]}'


@pytest.fixture
async def app() -> AsyncIterator[FastAPI]:
    app = create_app(Settings())
    async with app.router.lifespan_context(app):
        yield app


async def ask(app: FastAPI, method: str, path: str, body: bytes = b"") -> tuple[int, bytes, int]:
    """The status, the body, and how many calls of functions, Python's and C's, were made for it."""
    headers = [(b"host", b"localhost")]
    if body:
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "state": {"body_is_here": True},
    }
    sent: list[Message] = []
    calls = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        await app(scope, receive, send)
    finally:
        sys.setprofile(None)
    return sent[0]["status"], sent[1]["body"], calls


async def cost(app: FastAPI, method: str, path: str, body: bytes = b"") -> int:
    """The calls for a request that is not the first of its kind."""
    await ask(app, method, path, body)
    status, _, calls = await ask(app, method, path, body)
    assert status < 300
    return calls


async def created(app: FastAPI) -> str:
    """The path of a new task."""
    _, body, _ = await ask(app, "POST", "/v1/tasks", NEW)
    return f"/v1/tasks/{json.loads(body)['id']}"


async def test_a_task_is_answered_in_few_steps(app: FastAPI) -> None:
    assert await cost(app, "GET", await created(app)) <= 154


async def test_a_task_is_created_in_few_steps(app: FastAPI) -> None:
    assert await cost(app, "POST", "/v1/tasks", NEW) <= 218


async def test_a_list_is_answered_in_few_steps(app: FastAPI) -> None:
    assert await cost(app, "GET", "/v1/tasks") <= 144


async def test_the_same_request_costs_the_same_again(app: FastAPI) -> None:
    path = await created(app)
    assert await cost(app, "GET", path) == await cost(app, "GET", path)
