"""The service as a process: how it starts, stops, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

import task_api

SERVICE = Path(__file__).parent.parent
DEADLINE_SECONDS = 30


def _environment(**settings: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SERVICE / "src"), **settings}


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "task_api", *arguments],
        env=_environment(**settings),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )


class Service:
    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(sig)
        return self.process.wait(DEADLINE_SECONDS)


@contextmanager
def serving(**settings: str) -> Iterator[Service]:
    process = subprocess.Popen(
        [sys.executable, "-m", "task_api", "serve", "--port", "0"],
        env=_environment(**settings),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = []
    with process.stderr:
        try:
            for line in process.stderr:
                said.append(line)
                if listening := re.search(r"Listening on (http://\S+)", line):
                    yield Service(process, listening[1])
                    break
            else:
                pytest.fail("it did not start:\n" + "".join(said))
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_an_idle_connection_open(sig: signal.Signals) -> None:
    with serving() as service, httpx2.Client(base_url=service.url) as client:
        assert client.get("/livez").text == "ok"  # and the connection is kept
        assert service.stop(sig) == 0


def test_a_signal_ends_it_while_it_waits_for_its_database() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and never answers
        url = f"postgresql://me:pw@127.0.0.1:{silent.getsockname()[1]}/tasks"
        process = subprocess.Popen(
            [sys.executable, "-m", "task_api", "serve", "--port", "0"], env=_environment(TASKS_DATABASE_URL=url)
        )
        silent.settimeout(DEADLINE_SECONDS)
        connection, _ = silent.accept()
        process.terminate()
        assert process.wait(DEADLINE_SECONDS) == 0
        connection.close()


def test_a_task_survives_the_restart(tmp_path: Path) -> None:
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


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run("serve", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert f"Port {port} on 127.0.0.1 is taken" in done.stderr
    assert "TASKS_PORT=" in done.stderr


def test_a_folder_that_cannot_be_written_is_one_clear_line() -> None:
    done = run("serve", "--port", "0", TASKS_DATABASE_URL="sqlite:////dev/null/folder/tasks.db")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert "/dev/null/folder/tasks.db" in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("TASKS_PORT", "http", "valid integer"),
        ("TASKS_PORT", "70000", "less than or equal to 65535"),
        ("TASKS_DATABASE_URL", "mysql://me:hunter2@db/tasks", "memory://, sqlite:/// or postgresql://"),
        ("TASKS_DATABASE_URL", "sqlite://tasks.db", "three slashes"),
        ("TASKS_DATABASE_URL", "postgresql:///hunter2", "names a host"),
    ],
)
def test_a_wrong_setting_is_one_line_with_its_name_and_rule_but_not_its_value(name: str, value: str, rule: str) -> None:
    done = run("serve", **{name: value})
    assert done.returncode == 1
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert done.stderr.startswith(name)
    assert rule in done.stderr
    assert "hunter2" not in done.stderr


def test_what_kubernetes_injects_for_a_service_named_task_api_does_no_harm() -> None:
    with serving(TASK_API_PORT="tcp://10.96.0.7:80", TASK_API_SERVICE_PORT="80") as service:
        assert httpx2.get(f"{service.url}/livez").text == "ok"


def test_migrate_makes_the_schema_and_ends(tmp_path: Path) -> None:
    file = tmp_path / "tasks.db"
    done = run("migrate", TASKS_DATABASE_URL=f"sqlite:///{file}")
    assert (done.returncode, done.stderr) == (0, "")
    assert file.exists()


def test_openapi_prints_a_document_whose_references_lead_somewhere() -> None:
    document = json.loads(run("openapi").stdout)
    assert "/v1/tasks/{task_id}" in document["paths"]
    schemas = document["components"]["schemas"]
    references = re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(document))
    assert references
    assert set(references) <= schemas.keys()


def test_the_version_is_the_same_wherever_it_stands() -> None:
    project = tomllib.loads((SERVICE / "pyproject.toml").read_text())["project"]
    assert project["version"] == task_api.__version__
