"""The storage health check of /health."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from types import SimpleNamespace

import pytest
from expositions import PROMETHEUS_3, read
from hello.service import Hello, Settings
from starlette.testclient import TestClient

from chassis import storage_health
from chassis.app import create_app
from chassis.check import Check
from chassis.storage import StoreBusy, StoreUnavailable
from chassis.storage_health import StorageHealth

OK = Check(status="ok")


class FakeStorage:
    """A fake storage with configurable errors."""

    def __init__(self) -> None:
        self.number = 2
        self.pings = self.counts = 0
        self.ping_error: Exception | None = None
        self.count_error: Exception | None = None

    async def ping(self) -> None:
        self.pings += 1
        await asyncio.sleep(0)
        if self.ping_error is not None:
            raise self.ping_error

    async def count(self) -> int:
        self.counts += 1
        if self.count_error is not None:
            raise self.count_error
        return self.number


class HelloWithStorage(Hello):
    """The example service, with a storage."""

    fake_storage = FakeStorage()

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._health = StorageHealth(self.fake_storage)

    async def open(self) -> None:
        await self._health.start()

    def background(self) -> list[Coroutine[None, None, None]]:
        return [self._health.count_periodically()]

    async def check_health(self) -> tuple[int | None, dict[str, Check]]:
        return await self._health.check_health()


@pytest.fixture(autouse=True)
def storage(monkeypatch: pytest.MonkeyPatch) -> FakeStorage:
    """The storage of this test's services."""
    storage = FakeStorage()
    monkeypatch.setattr(HelloWithStorage, "fake_storage", storage)
    return storage


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(storage_health, "PING_SECONDS", 0.0)
    with TestClient(create_app(HelloWithStorage, Settings())) as client:
        yield client


async def test_a_check_right_after_startup_does_not_return_an_earlier_result(storage: FakeStorage) -> None:
    health = StorageHealth(storage)
    storage.ping_error = StoreUnavailable("it is not open")
    assert await health.check_health() == (None, {"storage": Check(status="failed", detail="it is not open")})
    storage.ping_error = None
    await health.start()
    assert await health.check_health() == (2, {"storage": OK})


async def test_a_busy_storage_is_healthy(storage: FakeStorage) -> None:
    health = StorageHealth(storage)
    await health.start()
    storage.ping_error = StoreBusy("all are in use")
    assert await health.check_health() == (2, {"storage": Check(status="ok", detail="all are in use")})


def test_an_unavailable_storage_degrades_health_but_not_liveness_or_readiness(
    storage: FakeStorage, client: TestClient
) -> None:
    storage.ping_error = StoreUnavailable("it is gone")
    response = client.get("/health")
    assert response.status_code == 503
    assert response.json()["status"] == "degraded"
    assert response.json()["checks"]["storage"] == {"status": "failed", "detail": "it is gone"}
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 200


def test_the_count_is_in_the_json_and_in_the_metrics(client: TestClient) -> None:
    assert client.get("/health").json()["hellos_total"] == 2
    samples = read(client.get("/health", headers={"Accept": PROMETHEUS_3}))
    assert samples.keys() == {"hello_health_status", "hello_uptime_seconds", "hello_hellos", "hello_memory_bytes"}
    assert samples["hello_hellos"] == 2


@pytest.mark.parametrize("accept", [PROMETHEUS_3, "text/plain"])
def test_scrapers_see_an_unavailable_storage_as_a_metric_not_as_an_error_status(
    storage: FakeStorage, client: TestClient, accept: str
) -> None:
    storage.ping_error = StoreUnavailable("it is gone")
    response = client.get("/health", headers={"Accept": accept})
    assert response.status_code == 200  # Prometheus ignores the content of any other status
    samples = read(response)
    assert samples["hello_health_status"] == 0
    assert "hello_hellos" not in samples  # unknown
    assert client.get("/health").status_code == 503


def test_the_count_is_refreshed_periodically_not_by_requests(
    storage: FakeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TestClient(create_app(HelloWithStorage, Settings())) as client:
        for _ in range(10):
            assert client.get("/health").json()["hellos_total"] == 2
        assert storage.counts == 1
    monkeypatch.setattr(storage_health, "COUNT_SECONDS", 0.01)
    with TestClient(create_app(HelloWithStorage, Settings())) as client:
        storage.number = 3
        deadline = time.monotonic() + 30
        while client.get("/health").json()["hellos_total"] != 3:
            assert time.monotonic() < deadline


async def test_concurrent_and_repeated_checks_share_one_ping(
    storage: FakeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(storage_health, "time", SimpleNamespace(monotonic=lambda: now))
    health = StorageHealth(storage)
    cancelled = asyncio.create_task(health.check_health())
    others = [asyncio.create_task(health.check_health()) for _ in range(50)]
    await asyncio.sleep(0)
    cancelled.cancel()
    assert {checks["storage"].status for _, checks in await asyncio.gather(*others)} == {"ok"}
    now += 0.9
    await health.check_health()
    assert storage.pings == 1
    now += 0.2
    await health.check_health()
    assert storage.pings == 2


@pytest.mark.parametrize("method", ["ping", "count"])
def test_any_storage_error_degrades_health(storage: FakeStorage, method: str) -> None:
    setattr(storage, f"{method}_error", RuntimeError("permission denied for table hellos"))
    with TestClient(create_app(HelloWithStorage, Settings())) as client:
        response = client.get("/health")
        assert response.status_code == 503
        assert (response.json()["status"], response.json()["hellos_total"]) == ("degraded", None)
        assert "permission" not in response.text
        metrics = client.get("/health", headers={"Accept": PROMETHEUS_3})
        assert metrics.status_code == 200
        assert read(metrics)["hello_health_status"] == 0
