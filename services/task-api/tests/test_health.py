"""How the service says that it is well."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from expositions import PROMETHEUS_3, read
from pydantic import SecretStr
from starlette.testclient import TestClient

import task_api
from chassis import storage_health
from chassis.health import Vitals
from task_api import service
from task_api.app import create_app
from task_api.settings import Settings
from task_api.store import StoreUnavailable
from task_api.store.memory import MemoryStore


def test_health_says_what_runs_and_how_it_is(storage_url: str) -> None:
    settings = Settings(database_url=SecretStr(storage_url), revision="abc123")
    with TestClient(create_app(settings)) as client:
        client.post("/v1/tasks", json={"title": "one"})
    with TestClient(create_app(settings)) as client:
        response = client.get("/health")
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-store"
        health = response.json()
    assert health["status"] == "ok"
    assert health["version"] == task_api.__version__
    assert health["revision"] == "abc123"
    assert health["tasks_total"] == (0 if storage_url == "memory://" else 1)
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
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(storage_health, "PING_SECONDS", 0.0)
    monkeypatch.setattr(storage_health, "COUNT_SECONDS", 0.01)
    with TestClient(create_app(Settings())) as client:
        client.post("/v1/tasks", json={"title": "one"})
        _until_counted(client, 1)
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


def test_the_count_is_kept_up_by_itself_and_not_by_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = 0
    count = MemoryStore.count

    async def counting(store: MemoryStore) -> int:
        nonlocal counted
        counted += 1
        return await count(store)

    monkeypatch.setattr(MemoryStore, "count", counting)
    with TestClient(create_app(Settings())) as client:
        for _ in range(10):
            assert client.get("/health").json()["tasks_total"] == 0
        assert counted == 1
    monkeypatch.setattr(storage_health, "COUNT_SECONDS", 0.01)
    with TestClient(create_app(Settings())) as client:
        client.post("/v1/tasks", json={"title": "one"})
        _until_counted(client, 1)


def _until_counted(client: TestClient, number: int) -> None:
    deadline = time.monotonic() + 30
    while client.get("/health").json()["tasks_total"] != number:
        assert time.monotonic() < deadline


async def test_however_many_ask_at_once_the_storage_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def slowly(_: MemoryStore) -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.05)

    monkeypatch.setattr(MemoryStore, "ping", slowly)
    now = 1000.0
    monkeypatch.setattr(storage_health, "time", SimpleNamespace(monotonic=lambda: now))
    served = service.TaskApi(Settings())
    impatient = asyncio.create_task(served.condition())
    others = [asyncio.create_task(served.condition()) for _ in range(50)]
    await asyncio.sleep(0)
    impatient.cancel()
    assert {checks["storage"].status for _, checks in await asyncio.gather(*others)} == {"ok"}
    now += 0.9
    await served.condition()
    assert asked == 1
    now += 0.2
    await served.condition()
    assert asked == 2


@pytest.mark.parametrize("what", ["ping", "count"])
def test_whatever_is_wrong_with_the_storage_is_a_degraded_service(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: MemoryStore) -> None:
        raise RuntimeError("permission denied for table tasks")

    monkeypatch.setattr(MemoryStore, what, broken)
    with TestClient(create_app(Settings())) as client:
        answer = client.get("/health")
        assert answer.status_code == 503
        assert (answer.json()["status"], answer.json()["tasks_total"]) == ("degraded", None)
        assert "permission" not in answer.text
        scraped = client.get("/health", headers={"Accept": PROMETHEUS_3})
        assert scraped.status_code == 200
        assert read(scraped)["task_api_health_status"] == 0


def test_background_work_that_ends_by_a_defect_is_not_silent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Vitals, "keep_measuring", broken)
    with TestClient(create_app(Settings())) as client:
        client.get("/livez")
    assert "is not done any more" in caplog.text
    assert "a defect" in caplog.text
