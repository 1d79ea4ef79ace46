"""Metrics of a service in Prometheus' formats."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from databases import connected, pool_of
from expositions import OPENMETRICS, families, value
from hello.service import Hello, Settings
from note_stores import add, open_store
from notes.store import metrics
from programs import DEADLINE_SECONDS, eventually
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from chassis import health
from chassis.app import create_app
from chassis.auth import new_token
from chassis.metrics import CpuThrottling

FAMILIES = {
    "http_requests",
    "http_request_duration_seconds",
    "http_requests_in_flight",
    "hello_slow_clients",
    "hello_event_loop_lag_seconds",
    "hello_build_info",
}
"""Metric families of every service."""

OPENMETRICS_1 = f"{OPENMETRICS}; version=1.0.0; charset=utf-8"
V2 = "usage_usec 5000\nuser_usec 4000\nsystem_usec 1000\nnr_periods 40\nnr_throttled 7\nthrottled_usec 1500000\n"
V1 = "nr_periods 50\nnr_throttled 8\nthrottled_time 2500000000\n"


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Hello, Settings(revision="abc123"))) as client:
        yield client


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        (OPENMETRICS_1, OPENMETRICS_1),
    ],
)
def test_both_formats_can_be_parsed(client: TestClient, accept: str, content_type: str) -> None:
    response = client.get("/metrics", headers={"Accept": accept})
    assert response.headers["content-type"].startswith(content_type)
    assert response.headers["cache-control"] == "no-store"
    assert families(response).keys() >= FAMILIES


def test_requests_are_counted_and_timed_by_route_template(client: TestClient) -> None:
    route = {"method": "GET", "route": "/v1/hello/{name}"}
    counted = value(client, "http_requests_total", {**route, "status": "200"})
    timed = value(client, "http_request_duration_seconds_count", route)
    client.get(f"/v1/hello/{uuid4()}")
    assert value(client, "http_requests_total", {**route, "status": "200"}) == counted + 1
    assert value(client, "http_request_duration_seconds_count", route) == timed + 1
    assert value(client, "http_requests_in_flight") == 1  # this one


@pytest.mark.timeout(600)
def test_clients_cannot_increase_the_number_of_series(client: TestClient) -> None:
    def send_requests(number: int) -> None:
        for _ in range(number):
            client.get(f"/v1/hello/{uuid4()}")
            client.delete(f"/v1/hello/{uuid4()}")
            client.get(f"/{uuid4()}/x")
            client.request(uuid4().hex.upper(), "/v1/hello")
            client.request("PROPFIND", f"/{uuid4()}")

    def series() -> int:
        return sum(len(family.samples) for family in families(client.get("/metrics")).values())

    send_requests(1)
    series()
    before = series()
    send_requests(20)
    assert series() == before


def test_build_info_contains_what_is_running(client: TestClient) -> None:
    python = ".".join(map(str, sys.version_info[:3]))
    expected = {"version": "1.2.3", "revision": "abc123", "python": python, "storage": "none"}
    (sample,) = families(client.get("/metrics"))["hello_build_info"].samples
    assert (sample.labels, sample.value) == (expected, 1)


def test_a_blocked_event_loop_is_measured(client: TestClient) -> None:
    def lagging_ticks() -> float:
        name = "hello_event_loop_lag_seconds"
        return value(client, f"{name}_count") - value(client, f"{name}_bucket", {"le": "0.25"})

    before = lagging_ticks()
    assert client.portal is not None
    client.portal.call(time.sleep, health.TICK_SECONDS + 0.3)
    eventually(lambda: lagging_ticks() > before, "the lag")


async def test_the_pool_exposes_its_usage(client: TestClient, postgres_url: str) -> None:
    def pool() -> dict[str, float]:
        kinds = ("max_connections", "connections", "idle_connections", "waiting")
        return {kind: value(client, f"notes_db_pool_{kind}") for kind in kinds}

    async with pool_of(postgres_url, size=2, metrics=metrics) as connections:
        deadline = asyncio.get_running_loop().time() + 5
        assert pool() == {"max_connections": 2, "connections": 0, "idle_connections": 0, "waiting": 0}
        connections.release(await connections.acquire(deadline=deadline))
        assert pool() == {"max_connections": 2, "connections": 1, "idle_connections": 1, "waiting": 0}
        before = value(client, "notes_db_pool_acquire_seconds_count")
        acquired = [await connections.acquire(deadline=deadline) for _ in range(2)]
        waiting = asyncio.create_task(connections.acquire(deadline=deadline))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert pool() == {"max_connections": 2, "connections": 2, "idle_connections": 0, "waiting": 1}
        for connection in acquired:
            connections.release(connection)
        connections.release(await waiting)
        assert pool() == {"max_connections": 2, "connections": 2, "idle_connections": 2, "waiting": 0}
        assert value(client, "notes_db_pool_acquire_seconds_count") == before + 3


async def test_retries_are_counted_by_sqlstate(client: TestClient, postgres_url: str) -> None:
    def retries() -> float:
        return value(client, "notes_db_retries_total", {"sqlstate": "40001"})

    async with open_store(postgres_url, seconds=DEADLINE_SECONDS) as store, connected(postgres_url) as admin:
        await admin.execute(
            "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$"
        )
        await admin.execute("CREATE TRIGGER fails BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION fails()")
        before = retries()
        writing = asyncio.create_task(add(store))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while retries() <= before:
                await asyncio.sleep(0.01)
        await admin.execute("DROP TRIGGER fails ON notes")
        await writing


def test_metrics_require_the_scope_read_and_health_is_public(tmp_path: Path) -> None:
    (reader, line), (writer, other) = new_token("prometheus", ["read"]), new_token("ann", ["write"])
    (tmp_path / "tokens").write_text(f"{line}\n{other}\n")
    settings = Settings(auth="tokens", auth_token_file=tmp_path / "tokens")
    with TestClient(create_app(Hello, settings)) as client:

        def status(path: str, token: str | None) -> int:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            return client.get(path, headers=headers).status_code

        assert [status("/metrics", token) for token in (None, "wrong", writer, reader)] == [401, 401, 403, 200]
        assert [status("/health", token) for token in (None, "wrong")] == [200, 200]


def throttling(root: Path) -> dict[str, float | None]:
    registry = CollectorRegistry()
    registry.register(CpuThrottling("hello", root))
    names = ("periods", "throttled_periods", "throttled_seconds")
    return {name: registry.get_sample_value(f"hello_cpu_{name}_total") for name in names}


def test_cpu_throttling_is_read_from_cgroups_v1_and_v2(tmp_path: Path) -> None:
    no_samples = {"periods": None, "throttled_periods": None, "throttled_seconds": None}
    assert throttling(tmp_path) == no_samples
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.stat").write_text(V1)
    assert throttling(tmp_path) == {"periods": 50, "throttled_periods": 8, "throttled_seconds": 2.5}
    # Without a limit the file has only the usage, as at the root of version 2.
    (tmp_path / "cpu" / "cpu.stat").unlink()
    (tmp_path / "cpu.stat").write_text("usage_usec 5000\nuser_usec 4000\nsystem_usec 1000\n")
    assert throttling(tmp_path) == no_samples
    (tmp_path / "cpu.stat").write_text(V2)
    assert throttling(tmp_path) == {"periods": 40, "throttled_periods": 7, "throttled_seconds": 1.5}
