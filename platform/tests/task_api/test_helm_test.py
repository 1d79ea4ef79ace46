"""What `helm test` runs, run here against services that keep what they are given, and against some that do not."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from manifests import environment, one, render

Answer = tuple[int, Any]


class Api:
    """As much of the API as the test calls."""

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, str]] = {}

    def answer(self, method: str, path: str, body: Any) -> Answer:
        match method, path.split("/")[1:]:
            case "GET", ["readyz"]:
                return 200, "ok"
            case "GET", ["metrics"]:
                return self.metrics()
            case "POST", ["v1", "tasks"]:
                return self.create({"id": "1", "title": body["title"]})
            case "GET", ["v1", "tasks", task_id] if task_id in self.tasks:
                return 200, self.tasks[task_id]
            case "DELETE", ["v1", "tasks", task_id]:
                return self.delete(task_id)
        return 404, {}

    def metrics(self) -> Answer:
        return 200, "up 1"

    def create(self, task: dict[str, str]) -> Answer:
        self.tasks[task["id"]] = task
        return 201, task

    def delete(self, task_id: str) -> Answer:
        del self.tasks[task_id]
        return 204, None


class Forgetful(Api):
    def create(self, task: dict[str, str]) -> Answer:
        return 201, task


class Altering(Api):
    def create(self, task: dict[str, str]) -> Answer:
        super().create(task | {"title": "another"})
        return 201, task


class Keeping(Api):
    def delete(self, task_id: str) -> Answer:
        return 204, None


class Shy(Api):
    def metrics(self) -> Answer:
        return 401, {"title": "Unauthorized"}


class Open(Shy):
    """Without a token it shows no metrics, and yet lets anybody write."""


class Closed(Shy):
    def create(self, task: dict[str, str]) -> Answer:
        return 401, {"title": "Unauthorized"}


@contextmanager
def serving(api: Api) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            status, answer = api.answer(self.command, self.path, json.loads(self.rfile.read(length) or "null"))
            data = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing: what was asked is in the test's own output."""

    for method in ("GET", "POST", "DELETE"):  # http.server looks for do_ and the request's method
        setattr(Handler, f"do_{method}", Handler.do)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def helm_test(url: str, auth: str = "none") -> subprocess.CompletedProcess[str]:
    container = one("Pod", render(helm_tests=True))["spec"]["containers"][0]
    assert container["command"] == ["python", "-c"]
    assert environment(container) == {"API": "http://task-api:80", "AUTH": "none"}
    return subprocess.run(
        [sys.executable, "-c", *container["args"]],
        env={"API": url, "AUTH": auth},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_task_is_written_read_and_deleted() -> None:
    api = Api()
    with serving(api) as url:
        done = helm_test(url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ok: a task was written, read and deleted" in done.stdout
    assert api.tasks == {}


@pytest.mark.parametrize(
    ("api", "said"),
    [
        (Forgetful, "expected 200, got 404"),
        (Altering, "FAILED: wrote"),
        (Keeping, "expected 404, got 200"),
        (Shy, "expected 200, got 401"),
    ],
)
def test_a_service_that_does_not_keep_its_word_fails(api: Callable[[], Api], said: str) -> None:
    with serving(api()) as url:
        done = helm_test(url)
    assert done.returncode == 1
    assert said in done.stderr


def test_without_a_token_it_sees_that_nobody_writes() -> None:
    with serving(Closed()) as url:
        done = helm_test(url, auth="tokens")
    assert done.returncode == 0
    assert "writes without a token are rejected" in done.stdout


@pytest.mark.parametrize(("api", "said"), [(Api, "expected 401, got 200"), (Open, "expected 401, got 201")])
def test_without_a_token_a_service_that_lets_anybody_in_fails(api: Callable[[], Api], said: str) -> None:
    with serving(api()) as url:
        done = helm_test(url, auth="tokens")
    assert done.returncode == 1
    assert said in done.stderr
