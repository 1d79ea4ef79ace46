"""Unexpected errors: the client gets no details, the log gets all of them."""

from __future__ import annotations

import pytest
from hello.service import Hello
from starlette.testclient import TestClient

from chassis.app import create_app
from chassis.health import HealthState


def test_an_unexpected_error_is_a_500_without_details() -> None:
    async def broken() -> None:
        raise RuntimeError("secret detail")

    app = create_app(Hello, Hello.settings())
    app.get("/v1/broken")(broken)
    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get("/v1/broken")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret detail" not in response.text


def test_a_failed_background_task_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(HealthState, "measure_loop_lag", broken)
    with TestClient(create_app(Hello, Hello.settings())) as client:
        client.get("/livez")
    assert "stopped unexpectedly" in caplog.text
    assert "a defect" in caplog.text
