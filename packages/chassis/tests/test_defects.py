"""Unexpected errors: the client gets no details, the log gets all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

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
    assert "broken stopped unexpectedly" in caplog.text  # the name of the function
    assert "a defect" in caplog.text


async def test_background_tasks_end_before_the_service_is_closed_whatever_ended_it() -> None:
    events: list[str] = []

    class WithBackgroundTask(Hello):
        def background(self) -> list[Coroutine[None, None, None]]:
            return [self._work()]

        async def _work(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                events.append("background task ended")

        async def close(self) -> None:
            events.append("closed")

    async def serve_and_fail() -> None:
        app = create_app(WithBackgroundTask, Hello.settings())
        async with app.router.lifespan_context(app):
            await asyncio.sleep(0)  # the task starts
            raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        await serve_and_fail()
    assert events == ["background task ended", "closed"]
