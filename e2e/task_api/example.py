"""How tasks are written and read by the tests that hold for any service (e2e/example.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2


class Tasks:
    """A task, written, read and deleted."""

    counted: tuple[str, ...] = ("task_api_tasks",)
    helm_test = "ok: a task was written, read and deleted"
    helm_test_unauthorized = "ok: writes without a token are rejected"

    def write(self, client: httpx2.Client) -> tuple[str, Any]:
        written = client.post("/v1/tasks", json={"title": "older than all that follows"})
        assert written.status_code == 201
        task = written.json()
        return f"/v1/tasks/{task['id']}", task

    def requests(self, client: httpx2.Client) -> Iterator[tuple[httpx2.Response, int]]:
        written = client.post("/v1/tasks", json={"title": "all the time"})
        yield written, 201
        if written.status_code == 201:
            yield client.get(written.headers["location"]), 200
            yield client.delete(written.headers["location"]), 204


EXAMPLE = Tasks()
