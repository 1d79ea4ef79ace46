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


class Shelf:
    """A fake storage with configurable errors."""

    def __init__(self) -> None:
        self.number = 2
        self.pings = self.counts = 0
        self.wrong_ping: Exception | None = None
        self.wrong_count: Exception | None = None

    async def ping(self) -> None:
        self.pings += 1
        await asyncio.sleep(0)
        if self.wrong_ping is not None:
            raise self.wrong_ping

    async def count(self) -> int:
        self.counts += 1
        if self.wrong_count is not None:
            raise self.wrong_count
        return self.number


class Keeper(Hello):
    """The example service, with a storage."""

    shelf = Shelf()

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._health = StorageHealth(self.shelf)

    async def open(self) -> None:
        await self._health.start()

    def background(self) -> list[Coroutine[None, None, None]]:
        return [self._health.count_periodically()]

    async def check_health(self) -> tuple[int | None, dict[str, Check]]:
        return await self._health.check_health()


@pytest.fixture(autouse=True)
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """The storage of this test's services."""
    shelf = Shelf()
    monkeypatch.setattr(Keeper, "shelf", shelf)
    return shelf


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(storage_health, "PING_SECONDS", 0.0)
    with TestClient(create_app(Keeper, Settings())) as client:
        yield client


async def test_who_asks_right_after_the_start_is_not_told_what_was_so_before_it(shelf: Shelf) -> None:
    health = StorageHealth(shelf)
    shelf.wrong_ping = StoreUnavailable("it is not open")
    assert await health.check_health() == (None, {"storage": Check(status="failed", detail="it is not open")})
    shelf.wrong_ping = None
    await health.start()
    assert await health.check_health() == (2, {"storage": OK})


async def test_a_storage_that_is_busy_answers_others(shelf: Shelf) -> None:
    health = StorageHealth(shelf)
    await health.start()
    shelf.wrong_ping = StoreBusy("all are in use")
    assert await health.check_health() == (2, {"storage": Check(status="ok", detail="all are in use")})


def test_a_lost_storage_degrades_health_but_not_liveness_or_readiness(shelf: Shelf, client: TestClient) -> None:
    shelf.wrong_ping = StoreUnavailable("it is gone")
    response = client.get("/health")
    assert response.status_code == 503
    assert response.json()["status"] == "degraded"
    assert response.json()["checks"]["storage"] == {"status": "failed", "detail": "it is gone"}
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 200


def test_the_count_is_there_for_people_and_for_prometheus(client: TestClient) -> None:
    assert client.get("/health").json()["hellos_total"] == 2
    samples = read(client.get("/health", headers={"Accept": PROMETHEUS_3}))
    assert samples.keys() == {"hello_health_status", "hello_uptime_seconds", "hello_hellos", "hello_memory_bytes"}
    assert samples["hello_hellos"] == 2


@pytest.mark.parametrize("accept", [PROMETHEUS_3, "text/plain"])
def test_a_scraper_is_told_of_a_lost_storage_by_a_figure_not_a_status(
    shelf: Shelf, client: TestClient, accept: str
) -> None:
    shelf.wrong_ping = StoreUnavailable("it is gone")
    response = client.get("/health", headers={"Accept": accept})
    assert response.status_code == 200  # Prometheus ignores the content of any other status
    samples = read(response)
    assert samples["hello_health_status"] == 0
    assert "hello_hellos" not in samples  # unknown
    assert client.get("/health").status_code == 503


def test_the_count_is_kept_up_by_itself_and_not_by_who_asks(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    with TestClient(create_app(Keeper, Settings())) as client:
        for _ in range(10):
            assert client.get("/health").json()["hellos_total"] == 2
        assert shelf.counts == 1
    monkeypatch.setattr(storage_health, "COUNT_SECONDS", 0.01)
    with TestClient(create_app(Keeper, Settings())) as client:
        shelf.number = 3
        deadline = time.monotonic() + 30
        while client.get("/health").json()["hellos_total"] != 3:
            assert time.monotonic() < deadline


async def test_however_many_ask_at_once_the_storage_is_asked_once(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(storage_health, "time", SimpleNamespace(monotonic=lambda: now))
    health = StorageHealth(shelf)
    impatient = asyncio.create_task(health.check_health())
    others = [asyncio.create_task(health.check_health()) for _ in range(50)]
    await asyncio.sleep(0)
    impatient.cancel()
    assert {checks["storage"].status for _, checks in await asyncio.gather(*others)} == {"ok"}
    now += 0.9
    await health.check_health()
    assert shelf.pings == 1
    now += 0.2
    await health.check_health()
    assert shelf.pings == 2


@pytest.mark.parametrize("what", ["ping", "count"])
def test_whatever_is_wrong_with_the_storage_is_a_degraded_service(shelf: Shelf, what: str) -> None:
    setattr(shelf, f"wrong_{what}", RuntimeError("permission denied for table hellos"))
    with TestClient(create_app(Keeper, Settings())) as client:
        response = client.get("/health")
        assert response.status_code == 503
        assert (response.json()["status"], response.json()["hellos_total"]) == ("degraded", None)
        assert "permission" not in response.text
        scraped = client.get("/health", headers={"Accept": PROMETHEUS_3})
        assert scraped.status_code == 200
        assert read(scraped)["hello_health_status"] == 0
