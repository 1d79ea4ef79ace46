"""How the service says that it is well."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient
from test_probes import PROMETHEUS_3, read

import task_api
from task_api import domain
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


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Settings())) as client:
        client.post("/v1/tasks", json={"title": "one"})
        yield client


def test_the_count_is_there_for_people_and_for_prometheus(client: TestClient) -> None:
    assert client.get("/health").json()["tasks_total"] == 1
    samples = read(client.get("/health", headers={"Accept": PROMETHEUS_3}))
    assert samples.keys() == {
        "task_api_health_status",
        "task_api_uptime_seconds",
        "task_api_tasks",
        "task_api_memory_bytes",
    }
    assert samples["task_api_tasks"] == 1


@pytest.mark.parametrize("accept", [PROMETHEUS_3, "text/plain"])
def test_a_scraper_is_told_of_a_lost_storage_by_a_figure_not_a_status(
    client: TestClient, accept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(_self: MemoryStore) -> None:
        raise StoreUnavailable("it is gone")

    monkeypatch.setattr(MemoryStore, "ping", lost)
    answer = client.get("/health", headers={"Accept": accept})
    assert answer.status_code == 200  # Prometheus takes nothing of another one
    samples = read(answer)
    assert samples["task_api_health_status"] == 0
    assert "task_api_tasks" not in samples  # nobody knows
    assert client.get("/health").status_code == 503


def test_the_tasks_are_counted_once_in_five_seconds(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = 0
    count = MemoryStore.count
    now = 1000.0

    async def counting(store: MemoryStore) -> int:
        nonlocal counted
        counted += 1
        return await count(store)

    monkeypatch.setattr(MemoryStore, "count", counting)
    monkeypatch.setattr(domain, "time", SimpleNamespace(monotonic=lambda: now))
    for _ in range(10):
        assert client.get("/health").json()["tasks_total"] == 1
    assert counted == 1
    client.post("/v1/tasks", json={"title": "two"})
    now += 4.9
    assert client.get("/health").json()["tasks_total"] == 1
    now += 0.2
    assert client.get("/health").json()["tasks_total"] == 2
    assert counted == 2
