"""The cost of a request in function calls, not in time: the same on every machine, however busy it is.

`make bench` measures times. The application is complete, with the access log in a file and PostgreSQL's store on fake
connections that respond immediately. The bounds are the calls counted when they were written, plus a few for other
versions of Python: they leave no room for another layer or a second log line.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import weakref
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.types import Message, Scope

from chassis import logs
from chassis.body import BODY_COMPLETE
from chassis.postgres import database
from task_api.app import create_app
from task_api.settings import Settings
from task_api.store.postgres_rows import FIELDS, row_of, task_of
from task_api.store.task_json import KEY
from task_api.tasks import rules
from task_api.tasks.models import NewTask

NAMES = FIELDS.split(", ")
NEW = b'{"title":"Water the plants","priority":"high","due_on":"2026-12-01","labels":["home"]}'
TASK = "/v1/tasks/01990000-0000-7000-8000-000000000001"


class Connected:
    """A connection to a PostgreSQL that has as many tasks as requested."""

    def __init__(self) -> None:
        at, task_id = datetime(2026, 11, 25, tzinfo=UTC), UUID(TASK.rpartition("/")[2])
        task = rules.create(NewTask.model_validate_json(NEW), task_id=task_id, now=at)
        self._row: tuple[Any, ...] = row_of(task)[: len(NAMES)]

    def is_closed(self) -> bool:
        return False

    async def fetchrow(self, *_: object) -> tuple[object, ...]:
        return self._row

    async def fetch(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        key: tuple[object, ...] = (self._row[0].bytes,) if KEY in statement else ()
        rows = 1 if values == (self._row[0],) else 51
        return [key + (self._row if FIELDS in statement else ())] * rows

    async def execute(self, *_: object) -> str:
        return "INSERT 0 1"

    async def close(self) -> None:
        pass


@pytest.fixture
async def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FastAPI]:
    async def connect(*_: object, **__: object) -> Connected:
        return Connected()

    async def skipped(*_: object, **__: object) -> None:
        pass

    monkeypatch.setattr(asyncpg, "connect", connect)
    for step in ("_verify_server", "_migrate", "_verify_privileges"):
        monkeypatch.setattr(database.Database, step, skipped)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logs, "_access", None)
    app = create_app(Settings(database_url=SecretStr("postgresql://nobody@127.0.0.1/none")))
    with (tmp_path / "log").open("w") as log:
        logs.configure(log)
        await app.state.store.open()
        yield app
        await app.state.store.close()
        await asyncio.sleep(logs.WAIT_SECONDS)  # a timer started before writes the last lines
        logging.captureWarnings(False)


async def ask(app: FastAPI, method: str, path: str, body: bytes = b"") -> tuple[int, bytes, int]:
    """The status, the body, and the number of function calls, Python's and C's, made for it."""
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
        "state": {BODY_COMPLETE: True},
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

    gc.collect()
    gc.disable()  # what a collection calls belongs to other tests
    sys.setprofile(count)
    try:
        await app(scope, receive, send)
    finally:
        sys.setprofile(None)
        gc.enable()
    return sent[0]["status"], sent[1]["body"], calls


async def cost(app: FastAPI, method: str, path: str, body: bytes = b"") -> int:
    """The calls for a request after others of its kind, which filled the cache."""
    for _ in range(2):
        await ask(app, method, path, body)
    status, _, calls = await ask(app, method, path, body)
    assert status < 300
    return calls


async def test_getting_a_task_takes_few_calls(app: FastAPI) -> None:
    # Six more than without the cache of JSON (store/task_json.py), with which it takes 0.8 of the CPU.
    assert await cost(app, "GET", TASK) <= 129


async def test_creating_a_task_takes_few_calls(app: FastAPI) -> None:
    assert await cost(app, "POST", "/v1/tasks", NEW) <= 174


async def test_listing_50_tasks_takes_few_calls(app: FastAPI) -> None:
    # Two fewer than this if no other test listed tasks before, in this process.
    assert await cost(app, "GET", "/v1/tasks") <= 231


async def test_rows_are_not_revalidated() -> None:
    row = await Connected().fetchrow()
    # Validation would make another list. It is a single call whatever it does, so the bounds do not detect it.
    assert task_of(row).labels is row[NAMES.index("labels")]


async def test_repeated_requests_take_the_same_number_of_calls(app: FastAPI) -> None:
    assert await cost(app, "GET", TASK) == await cost(app, "GET", TASK)


async def test_each_request_is_one_log_line(app: FastAPI, tmp_path: Path) -> None:
    await cost(app, "GET", TASK)
    logging.getLogger("task_api").warning("after them")
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line.get("path", line["message"]) for line in lines] == [TASK, TASK, TASK, "after them"]


async def test_log_lines_are_written_in_batches_without_delay(app: FastAPI, tmp_path: Path) -> None:
    await cost(app, "GET", TASK)
    assert (tmp_path / "log").read_text() == ""
    async with asyncio.timeout(10):
        while len((tmp_path / "log").read_text().splitlines()) < 3:
            await asyncio.sleep(logs.WAIT_SECONDS)


async def test_buffered_log_lines_are_flushed_at_exit(app: FastAPI, tmp_path: Path) -> None:
    await cost(app, "GET", TASK)
    logging.shutdown([weakref.ref(handler) for handler in logging.getLogger().handlers])  # as at exit
    assert len((tmp_path / "log").read_text().splitlines()) == 3
