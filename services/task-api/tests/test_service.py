"""What clients and issuers know this service by: the chassis has it from service.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import run
from starlette.testclient import TestClient

from chassis.auth.oidc import OIDCAuth
from task_api.app import create_app
from task_api.service import TaskApi
from task_api.settings import Settings


def test_its_tokens_can_be_found_by_scanners() -> None:
    done = run("token", "new", "--name", "ann", "--scope", "read")
    assert "The token, shown only once: tsk_" in done.stderr
    assert "Its line for TASKS_AUTH_TOKEN_FILE:" in done.stderr


def test_who_sends_no_credential_is_told_its_name(tmp_path: Path) -> None:
    (tmp_path / "tokens").touch()
    with TestClient(create_app(Settings(auth="tokens", auth_token_file=tmp_path / "tokens"))) as client:
        assert client.get("/v1/tasks").headers["www-authenticate"] == 'Bearer realm="task-api"'


def test_an_issuer_may_name_its_scopes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(OIDCAuth, "__init__", lambda *_, scope_prefix, **__: given.append(scope_prefix))
    create_app(Settings(auth="oidc", oidc_issuer="https://login.example", oidc_audience="tasks"))
    assert given == ["tasks"] == [TaskApi.scope_prefix]
