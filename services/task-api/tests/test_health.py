"""How the service says that it is well."""

from __future__ import annotations

import resource

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

import task_api
from task_api.app import create_app
from task_api.settings import Settings
from task_api.store import StoreUnavailable
from task_api.store.memory import MemoryStore


def test_health_says_what_runs_and_how_it_is(storage_url: str) -> None:
    settings = Settings(database_url=SecretStr(storage_url), revision="abc123")
    with TestClient(create_app(settings)) as client:
        client.post("/v1/tasks", json={"title": "one"})
        response = client.get("/health")
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-store"
        health = response.json()
    assert health["status"] == "ok"
    assert health["version"] == task_api.__version__
    assert health["revision"] == "abc123"
    assert health["tasks_total"] == 1
    assert health["uptime_seconds"] > 0
    assert health["storage"] == storage_url.split(":")[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert peak / 3 < health["memory_bytes"] < peak * 1.1  # the kernel's two counters differ a little


def test_tasks_in_memory_come_with_a_warning() -> None:
    with TestClient(create_app(Settings())) as client:
        assert "gone when the service stops" in client.get("/health").json()["checks"]["storage"]["detail"]


def test_a_lost_storage_degrades_health_but_not_liveness_or_readiness(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(_self: MemoryStore) -> None:
        raise StoreUnavailable("it is gone")

    with TestClient(create_app(Settings())) as client:
        monkeypatch.setattr(MemoryStore, "ping", lost)
        response = client.get("/health")
        assert response.status_code == 503
        assert response.json()["status"] == "degraded"
        assert response.json()["checks"]["storage"] == {"status": "failed", "detail": "it is gone"}
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 200


def test_a_request_that_needs_a_lost_storage_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(*_: object, **__: object) -> None:
        raise StoreUnavailable("10.0.0.7 is gone")

    monkeypatch.setattr(MemoryStore, "page", lost)
    with TestClient(create_app(Settings())) as client:
        response = client.get("/v1/tasks")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert "10.0.0.7" not in response.text


def test_a_defect_is_answered_without_its_details(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(MemoryStore, "page", broken)
    with TestClient(create_app(Settings()), raise_server_exceptions=False) as client:
        response = client.get("/v1/tasks")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret detail" not in response.text
