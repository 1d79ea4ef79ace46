"""Rungs 3 and 4: ASGI without a framework, as the upper limit of uvicorn and asyncpg.

`constant` returns fixed bytes. `database` does the service's work with the fewest possible layers: the same statement,
the same JSON, no validation, no error handling, no middleware.
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime

import asyncpg
from pydantic_core import from_json, to_json
from uuid_utils.compat import uuid7

FIXTURE = json.loads(os.environ["BENCH_FIXTURE"])
PRIORITIES = FIXTURE["priorities"]
RANKS = {name: rank for rank, name in enumerate(PRIORITIES)}
JSON = (b"content-type", b"application/json")


async def constant(scope, receive, send):
    """Rung 3: the bytes of the service's response."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["method"] == "POST":
        await receive()
        await _respond(send, 201, CONSTANT["post"])
    else:
        await _respond(send, 200, CONSTANT["list" if scope["path"] == "/v1/tasks" else "get"])


CONSTANT = {kind: text.encode() for kind, text in FIXTURE.get("bodies", {}).items()}


async def database(scope, receive, send):
    """Rung 4: asyncpg's own pool, one statement, JSON from the row."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["method"] == "POST":
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        task = _new(from_json(body))
        await pool.execute(FIXTURE["post"], *_row(task), "created", to_json(task).decode())
        await _respond(
            send, 201, to_json(task), (b"etag", b'"v1"'), (b"location", b"/v1/tasks/" + str(task["id"]).encode())
        )
    elif scope["path"] == "/v1/tasks":
        rows = await pool.fetch(FIXTURE["list"])
        tasks = [_task(row) for row in rows[:50]]
        cursor = CURSOR if len(rows) > 50 else None
        await _respond(send, 200, to_json({"items": tasks, "next_cursor": cursor}), (b"link", LINK))
    else:
        row = await pool.fetchrow(FIXTURE["get"], scope["path"][-36:])
        task = _task(row)
        await _respond(send, 200, to_json(task), (b"etag", b'"v%d"' % task["version"]))


# The cursor is the same on every rung: encoding it is not measured.
CURSOR = FIXTURE.get("cursor")
LINK = b'</v1/tasks?cursor=...>; rel="next"'


def _task(row):
    task = dict(row)
    task["priority"] = PRIORITIES[task["priority"]]
    task["metadata"] = from_json(task["metadata"])
    return task


def _new(values):
    now = datetime.now(UTC)
    return {
        "id": uuid7(),
        "title": values["title"],
        "description": values.get("description"),
        "status": values.get("status", "todo"),
        "priority": values.get("priority", "none"),
        "due_at": values.get("due_at"),
        "due_on": None if values.get("due_on") is None else datetime.fromisoformat(values["due_on"]).date(),
        "start_at": values.get("start_at"),
        "labels": values.get("labels", []),
        "project": values.get("project"),
        "parent": values.get("parent"),
        "assignee": values.get("assignee"),
        "percent_done": 0,
        "recurrence": values.get("recurrence"),
        "time_zone": values.get("time_zone"),
        "followed_by": None,
        "position": values.get("position", 0.0),
        "metadata": values.get("metadata", {}),
        "created_at": now,
        "updated_at": now,
        "completed_at": None,
        "deleted_at": None,
        "version": 1,
    }


def _row(task):
    day = task["due_on"]
    due = None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC)
    words = set(re.findall(r"[^\W_]+", f"{task['title']} {task['description'] or ''}".casefold()))
    values = {**task, "priority": RANKS[task["priority"]], "metadata": to_json(task["metadata"]).decode()}
    return (*values.values(), due, list(words))


async def _respond(send, status, body, *headers):
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [JSON, length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive, send):
    global pool
    await receive()
    if "BENCH_DATABASE_URL" in os.environ:
        size = int(os.environ["BENCH_POOL"])
        pool = await asyncpg.create_pool(os.environ["BENCH_DATABASE_URL"], min_size=size, max_size=size)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
