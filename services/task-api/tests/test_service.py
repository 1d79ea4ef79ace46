"""The names of this service that clients and token issuers see."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx2
import pytest
from running import run, serving
from starlette.testclient import TestClient

from chassis.auth import new_token
from chassis.auth.oidc import OIDCAuth
from task_api.app import create_app
from task_api.service import TaskApi
from task_api.settings import Settings


def test_tokens_have_a_prefix_for_secret_scanners() -> None:
    done = run("token", "new", "--name", "ann", "--scope", "read")
    assert "The token, shown only once: tsk_" in done.stderr
    assert "Its line for TASKS_AUTH_TOKEN_FILE:" in done.stderr


def test_a_401_names_the_realm(tmp_path: Path) -> None:
    (tmp_path / "tokens").touch()
    with TestClient(create_app(Settings(auth="tokens", auth_token_file=tmp_path / "tokens"))) as client:
        assert client.get("/v1/tasks").headers["www-authenticate"] == 'Bearer realm="task-api"'


def test_a_stream_ends_soon_after_its_token_is_revoked(tmp_path: Path) -> None:
    (reader, reads), (writer, writes) = new_token("reader", ["read"]), new_token("writer", ["write"])
    file = tmp_path / "tokens"
    file.write_text(f"{reads}\n{writes}\n")
    as_reader = {"Authorization": f"Bearer {reader}", "Accept": "text/event-stream"}
    ended = threading.Event()
    with (
        serving(TASKS_AUTH="tokens", TASKS_AUTH_TOKEN_FILE=str(file)) as service,
        httpx2.Client(base_url=service.url, timeout=60) as client,
    ):

        def write_until_it_ends() -> None:
            with httpx2.Client(base_url=service.url, headers={"Authorization": f"Bearer {writer}"}) as other:
                while not ended.wait(0.2):
                    other.post("/v1/tasks", json={"title": "Water the plants"})

        writing = threading.Thread(target=write_until_it_ends)
        with client.stream("GET", "/v1/changes?since=now", headers=as_reader) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "retry: 2000"
            writing.start()
            assert next(lines).startswith("id: ")
            file.write_text(f"{writes}\n")
            for _ in lines:
                pass
        ended.set()
        writing.join()
        assert client.get("/v1/changes", headers=as_reader).status_code == 401


def test_oidc_scopes_may_have_the_service_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    prefixes: list[str] = []
    monkeypatch.setattr(OIDCAuth, "__init__", lambda *_, scope_prefix, **__: prefixes.append(scope_prefix))
    create_app(Settings(auth="oidc", oidc_issuer="https://login.example", oidc_audience="tasks"))
    assert prefixes == ["tasks"] == [TaskApi.scope_prefix]
