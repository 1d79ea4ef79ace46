"""Requests to tasks, for the tests of any service (e2e/example.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2


class Tasks:
    """Writes, reads and deletes a task."""

    health_metrics: tuple[str, ...] = ("task_api_tasks",)
    helm_test = "ok: a task was written, read and deleted"
    helm_test_unauthorized = "ok: writes without a token are rejected"

    def write(self, client: httpx2.Client) -> tuple[str, Any]:
        response = client.post("/v1/tasks", json={"title": "older than all that follows"})
        assert response.status_code == 201, response.text
        task = response.json()
        return f"/v1/tasks/{task['id']}", task

    def requests(self, client: httpx2.Client) -> Iterator[tuple[httpx2.Response, int]]:
        response = client.post("/v1/tasks", json={"title": "all the time"})
        yield response, 201
        if response.status_code == 201:
            yield client.get(response.headers["location"]), 200
            yield client.delete(response.headers["location"]), 204


EXAMPLE = Tasks()
