"""The service as a process: what persists across restarts, and its errors at start.

What is common to all services is tested in packages/chassis/tests/test_command_line.py.
"""

from __future__ import annotations

import json
import re
import signal
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from running import DEADLINE_SECONDS, SERVICE, expect_error, run, serving

import task_api


def test_a_task_survives_a_restart(tmp_path: Path) -> None:
    storage = {"TASKS_DATABASE_URL": f"sqlite:///{tmp_path}/new/folder/tasks.db"}
    with serving(**storage) as service:
        task = httpx2.post(f"{service.url}/v1/tasks", json={"title": "still there"}).json()
        assert service.stop() == 0
    with serving(**storage) as service:
        assert httpx2.get(f"{service.url}/v1/tasks/{task['id']}").json() == task


def test_an_acknowledged_task_survives_kill_9(tmp_path: Path) -> None:
    storage = {"TASKS_DATABASE_URL": f"sqlite:///{tmp_path}/tasks.db"}
    with serving(**storage) as service:
        task = httpx2.post(f"{service.url}/v1/tasks", json={"title": "still there"}).json()
        assert service.stop(signal.SIGKILL) == -signal.SIGKILL
    with serving(**storage) as service:
        assert httpx2.get(f"{service.url}/v1/tasks/{task['id']}").json() == task


def test_a_read_only_folder_is_a_one_line_error() -> None:
    error = expect_error("serve", "--port", "0", TASKS_DATABASE_URL="sqlite:////dev/null/folder/tasks.db")
    assert "/dev/null/folder/tasks.db" in error


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("mysql://me:hunter2@db/tasks", "memory://, sqlite:/// or postgresql://"),
        ("sqlite://tasks.db", "three slashes"),
        ("postgresql://me:hunter2/3@db/tasks", "%2F"),
        ("postgresql://me:hunter2\N{ACCOUNT OF}@db/tasks", "not a valid URL"),
    ],
)
def test_an_invalid_url_is_a_one_line_error_without_its_value(value: str, rule: str) -> None:
    error = expect_error("serve", TASKS_DATABASE_URL=value)
    assert error.startswith("TASKS_DATABASE_URL")
    assert rule in error
    assert "hunter2" not in error


def test_service_variables_injected_by_kubernetes_are_ignored() -> None:
    with serving(TASK_API_PORT="tcp://10.96.0.7:80", TASK_API_SERVICE_PORT="80") as service:
        assert httpx2.get(f"{service.url}/livez").text == "ok"


def test_migrate_creates_the_schema_and_exits(tmp_path: Path) -> None:
    file = tmp_path / "tasks.db"
    done = run("migrate", TASKS_DATABASE_URL=f"sqlite:///{file}")
    assert (done.returncode, done.stderr) == (0, "")
    assert file.exists()


def test_a_change_stream_resumes_and_ends_with_the_service(tmp_path: Path) -> None:
    storage = {"TASKS_DATABASE_URL": f"sqlite:///{tmp_path}/tasks.db"}

    def events(stream: Iterator[str], number: int) -> list[dict[str, Any]]:
        found, event = [], dict[str, Any]()
        for line in stream:
            name, _, value = line.partition(": ")
            if name in {"id", "event"}:
                event[name] = value
            elif name == "data":
                event[name] = json.loads(value)
            elif not line and "data" in event:
                found.append(event)
                event = {}
                if len(found) == number:
                    break
        return found

    with serving(**storage) as service, httpx2.Client(base_url=service.url, timeout=DEADLINE_SECONDS) as client:
        accept = {"Accept": "text/event-stream"}
        with client.stream("GET", "/v1/changes?since=now", headers=accept) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = stream.iter_lines()
            task = httpx2.post(f"{service.url}/v1/tasks", json={"title": "new"}).json()
            (created,) = events(lines, 1)
            assert (created["event"], created["data"]["task"]) == ("created", task)
            httpx2.patch(f"{service.url}/v1/tasks/{task['id']}", json={"title": "newer"})
            (updated,) = events(lines, 1)
            assert updated["data"]["task"]["title"] == "newer"
        with client.stream("GET", "/v1/changes", headers={**accept, "Last-Event-ID": created["id"]}) as stream:
            lines = stream.iter_lines()
            assert events(lines, 1) == [updated]
            assert service.stop() == 0
            assert list(lines) == []


def test_openapi_prints_a_document_without_broken_references() -> None:
    document = json.loads(run("openapi").stdout)
    assert "/v1/tasks/{task_id}" in document["paths"]
    schemas = document["components"]["schemas"]
    references = re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(document))
    assert references
    assert set(references) <= schemas.keys()


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((SERVICE / "pyproject.toml").read_text())["project"]
    assert project["version"] == task_api.__version__
