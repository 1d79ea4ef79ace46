"""Rungs 3 and 4: ASGI without any framework. What uvicorn and asyncpg leave room for, and nothing else.

`constant` answers bytes that it was given. `asking` does the service's work with the fewest layers that do it: the same
statement, the same JSON, no validation, no errors, no middleware.
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime

import asyncpg
from pydantic_core import from_json, to_json
from uuid_utils.compat import uuid7

GIVEN = json.loads(os.environ["BENCH_GIVEN"])
PRIORITIES = GIVEN["priorities"]
RANKS = {name: rank for rank, name in enumerate(PRIORITIES)}
JSON = (b"content-type", b"application/json")


async def constant(scope, receive, send):
    """Rung 3: the bytes that the real endpoint answered."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["method"] == "POST":
        await receive()
        await _answer(send, 201, CONSTANT["post"])
    else:
        await _answer(send, 200, CONSTANT["list" if scope["path"] == "/v1/tasks" else "get"])


CONSTANT = {kind: text.encode() for kind, text in GIVEN.get("bodies", {}).items()}


async def asking(scope, receive, send):
    """Rung 4: asyncpg's own pool, one statement, the JSON made from the row."""
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
        await pool.execute(GIVEN["post"], *_row(task), "created", to_json(task).decode())
        await _answer(
            send, 201, to_json(task), (b"etag", b'"v1"'), (b"location", b"/v1/tasks/" + str(task["id"]).encode())
        )
    elif scope["path"] == "/v1/tasks":
        rows = await pool.fetch(GIVEN["list"])
        tasks = [_task(row) for row in rows[:50]]
        cursor = CURSOR if len(rows) > 50 else None
        await _answer(send, 200, to_json({"items": tasks, "next_cursor": cursor}), (b"link", LINK))
    else:
        row = await pool.fetchrow(GIVEN["get"], scope["path"][-36:])
        task = _task(row)
        await _answer(send, 200, to_json(task), (b"etag", b'"v%d"' % task["version"]))


# The place where the next page begins is the same on every rung: what it takes to write it is not what is measured.
CURSOR = GIVEN.get("cursor")
LINK = b'</v1/tasks?cursor=...>; rel="next"'


def _task(row):
    task = dict(row)
    task["priority"] = PRIORITIES[task["priority"]]
    task["metadata"] = from_json(task["metadata"])
    return task


def _new(said):
    now = datetime.now(UTC)
    return {
        "id": uuid7(),
        "title": said["title"],
        "description": said.get("description"),
        "status": said.get("status", "todo"),
        "priority": said.get("priority", "none"),
        "due_at": said.get("due_at"),
        "due_on": None if said.get("due_on") is None else datetime.fromisoformat(said["due_on"]).date(),
        "start_at": said.get("start_at"),
        "labels": said.get("labels", []),
        "project": said.get("project"),
        "parent": said.get("parent"),
        "assignee": said.get("assignee"),
        "percent_done": 0,
        "recurrence": said.get("recurrence"),
        "time_zone": said.get("time_zone"),
        "followed_by": None,
        "position": said.get("position", 0.0),
        "metadata": said.get("metadata", {}),
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


async def _answer(send, status, body, *headers):
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
