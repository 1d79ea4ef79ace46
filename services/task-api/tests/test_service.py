"""The names of this service that clients and token issuers see."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import run
from starlette.testclient import TestClient

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


def test_oidc_scopes_may_have_the_service_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    prefixes: list[str] = []
    monkeypatch.setattr(OIDCAuth, "__init__", lambda *_, scope_prefix, **__: prefixes.append(scope_prefix))
    create_app(Settings(auth="oidc", oidc_issuer="https://login.example", oidc_audience="tasks"))
    assert prefixes == ["tasks"] == [TaskApi.scope_prefix]
