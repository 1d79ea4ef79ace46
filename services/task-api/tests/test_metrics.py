"""What Prometheus is told."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from databases import pool_of
from making import NOW, a_task
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from pydantic import SecretStr
from running import DEADLINE_SECONDS, SERVICE
from starlette.testclient import TestClient
from stores import opened

import task_api
from chassis import health
from chassis.auth import new_token
from task_api.app import create_app
from task_api.settings import Settings
from task_api.store import Write
from task_api.store.metrics import metrics
from task_api.tasks import feed

LABELS = {
    "http_requests": {"method", "route", "status"},
    "http_request_duration_seconds": {"method", "route"},
    "http_requests_in_flight": set(),
    "task_api_slow_clients": {"part"},
    "task_api_db_pool_max_connections": set(),
    "task_api_db_pool_connections": set(),
    "task_api_db_pool_idle_connections": set(),
    "task_api_db_pool_waiting": set(),
    "task_api_db_pool_acquire_seconds": set(),
    "task_api_db_retries": {"sqlstate"},
    "task_api_db_rejected": set(),
    "task_api_db_held_commits": set(),
    "task_api_idempotent_replays": set(),
    "task_api_change_feed_lag_seconds": set(),
    "task_api_event_loop_lag_seconds": set(),
    "task_api_build_info": {"version", "revision", "python", "storage"},
}
"""The families, as Prometheus names them, and their labels."""

CPU = {"task_api_cpu_periods", "task_api_cpu_throttled_periods", "task_api_cpu_throttled_seconds"}
CPU_TOTALS = {f"{name}_total" for name in CPU}  # only in a container whose CPU is limited
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Settings(revision="abc123"))) as client:
        yield client


def families(client: TestClient) -> dict[str, Metric]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return {family.name: family for family in parse_text(answer.text)}


def value(client: TestClient, name: str, labels: Mapping[str, str] | None = None) -> float:
    """A sample of what was counted until now, 0 where there is none yet. (Tests of one process share the counters.)"""
    for family in families(client).values():
        for sample in family.samples:
            if sample.name == name and sample.labels == (labels or {}):
                return float(sample.value)
    return 0.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not show"
        time.sleep(0.02)


def test_the_families_and_their_labels_are_those_that_dashboards_ask_for(client: TestClient) -> None:
    client.post("/v1/tasks", json={"title": "x"})
    found = families(client)
    own = {name for name in found if name.startswith(("http_", "task_api_"))}
    assert own - CPU == LABELS.keys()
    for name, labels in LABELS.items():
        for sample in found[name].samples:
            assert sample.labels.keys() - {"le"} == labels, name
    assert {name for name in found if not name.startswith(("http_", "task_api_", "process_", "python_"))} == set()


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        (OPENMETRICS, OPENMETRICS),
    ],
)
def test_both_formats_can_be_read(client: TestClient, accept: str, content_type: str) -> None:
    answer = client.get("/metrics", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith(content_type)
    assert answer.headers["cache-control"] == "no-store"
    parse = parse_openmetrics if accept == OPENMETRICS else parse_text
    assert LABELS.keys() <= {family.name for family in parse(answer.text)}
    assert answer.text.endswith("# EOF\n") == (accept == OPENMETRICS)


def test_a_request_is_counted_and_timed_under_its_routes_template(client: TestClient) -> None:
    route = {"method": "GET", "route": "/v1/tasks/{task_id}"}
    counted = value(client, "http_requests_total", {**route, "status": "404"})
    timed = value(client, "http_request_duration_seconds_count", route)
    client.get(f"/v1/tasks/{uuid4()}")
    assert value(client, "http_requests_total", {**route, "status": "404"}) == counted + 1
    assert value(client, "http_request_duration_seconds_count", route) == timed + 1
    assert value(client, "http_requests_in_flight") == 1  # this one


@pytest.mark.timeout(600)
def test_the_number_of_series_does_not_grow_with_what_clients_ask_for(client: TestClient) -> None:
    def ask(number: int) -> None:
        for _ in range(number):
            client.get(f"/v1/tasks/{uuid4()}")
            client.get(f"/v1/tasks/{uuid4()}:undelete")
            client.get(f"/{uuid4()}/x")
            client.request(uuid4().hex.upper(), "/v1/tasks")
            client.request("PROPFIND", f"/{uuid4()}")

    def series() -> int:
        return sum(len(family.samples) for family in families(client).values())

    ask(1)
    families(client)
    before = series()
    ask(20)
    assert series() == before


def test_what_runs_is_told(client: TestClient) -> None:
    python = ".".join(map(str, sys.version_info[:3]))
    expected = {"version": task_api.__version__, "revision": "abc123", "python": python, "storage": "memory"}
    (sample,) = families(client)["task_api_build_info"].samples
    assert (sample.labels, sample.value) == (expected, 1)


def test_an_answer_from_memory_of_an_earlier_one_is_counted(client: TestClient) -> None:
    before = value(client, "task_api_idempotent_replays_total")
    for _ in range(3):
        client.post("/v1/tasks", json={"title": "x"}, headers={"Idempotency-Key": "k"})
    assert value(client, "task_api_idempotent_replays_total") == before + 2


def test_a_blocked_event_loop_shows(client: TestClient) -> None:
    def late() -> float:
        name = "task_api_event_loop_lag_seconds"
        return value(client, f"{name}_count") - value(client, f"{name}_bucket", {"le": "0.25"})

    before = late()
    assert client.portal is not None
    client.portal.call(time.sleep, health.TICK_SECONDS + 0.3)
    until(lambda: late() > before)


def test_a_transaction_that_stays_open_shows_in_the_lag_of_the_feed(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MEASURE_SECONDS", 0.02)

    async def hold() -> asyncpg.Connection[asyncpg.Record]:
        connection = await asyncpg.connect(postgres_url)
        await connection.execute("BEGIN; SELECT pg_current_xact_id()")
        return connection

    def lag(client: TestClient) -> float:
        return value(client, "task_api_change_feed_lag_seconds")

    with TestClient(create_app(Settings(database_url=SecretStr(postgres_url)))) as client:
        portal = client.portal
        assert portal is not None
        other = portal.call(hold)
        client.post("/v1/tasks", json={"title": "nobody can see it yet"})
        until(lambda: lag(client) > 0.2)
        portal.call(other.close)
        until(lambda: lag(client) == 0)


async def test_the_pool_tells_how_it_is_used(postgres_url: str) -> None:
    with TestClient(create_app(Settings())) as client:

        def pool() -> dict[str, float]:
            kinds = ("max_connections", "connections", "idle_connections", "waiting")
            return {kind: value(client, f"task_api_db_pool_{kind}") for kind in kinds}

        async with pool_of(postgres_url, size=2, metrics=metrics) as connections:
            deadline = asyncio.get_running_loop().time() + 5
            assert pool() == {"max_connections": 2, "connections": 0, "idle_connections": 0, "waiting": 0}
            connections.release(await connections.acquire(deadline=deadline))
            assert pool() == {"max_connections": 2, "connections": 1, "idle_connections": 1, "waiting": 0}
            before = value(client, "task_api_db_pool_acquire_seconds_count")
            held = [await connections.acquire(deadline=deadline) for _ in range(2)]
            waiting = asyncio.create_task(connections.acquire(deadline=deadline))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert pool() == {"max_connections": 2, "connections": 2, "idle_connections": 0, "waiting": 1}
            for connection in held:
                connections.release(connection)
            connections.release(await waiting)
            assert pool() == {"max_connections": 2, "connections": 2, "idle_connections": 2, "waiting": 0}
            assert value(client, "task_api_db_pool_acquire_seconds_count") == before + 3


async def test_work_done_again_is_counted_by_what_ended_it(postgres_url: str) -> None:
    with TestClient(create_app(Settings())) as client:
        async with opened(postgres_url, seconds=DEADLINE_SECONDS) as store:
            admin = await asyncpg.connect(postgres_url)
            await admin.execute(
                "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$"
            )
            await admin.execute("CREATE TRIGGER fails BEFORE INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION fails()")
            before = value(client, "task_api_db_retries_total", {"sqlstate": "40001"})
            writing = asyncio.create_task(store.commit([Write(a_task(), "created")], now=NOW))
            async with asyncio.timeout(DEADLINE_SECONDS):
                while value(client, "task_api_db_retries_total", {"sqlstate": "40001"}) <= before:
                    await asyncio.sleep(0.01)
            await admin.execute("DROP TRIGGER fails ON tasks")
            await writing
            await admin.close()


def test_metrics_are_for_who_may_read_and_health_is_for_all(tmp_path: Path) -> None:
    (reader, line), (writer, other) = new_token("prometheus", ["read"]), new_token("ann", ["write"])
    (tmp_path / "tokens").write_text(f"{line}\n{other}\n")
    settings = Settings(auth="tokens", auth_token_file=tmp_path / "tokens")
    with TestClient(create_app(settings)) as client:

        def status(path: str, token: str | None) -> int:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            return client.get(path, headers=headers).status_code

        assert [status("/metrics", token) for token in (None, "wrong", writer, reader)] == [401, 401, 403, 200]
        assert [status("/health", token) for token in (None, "wrong")] == [200, 200]


def test_the_table_in_the_docs_is_what_is_exported(client: TestClient) -> None:
    page = (SERVICE.parents[1] / "docs/operate.md").read_text()
    rows = re.findall(r"^\| `([a-z_]+)` \| (gauge|counter|histogram) \| ([^|]*)\|", page, re.MULTILINE)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    client.get("/v1/tasks")
    exported = families(client)
    health_text = client.get("/health", headers={"Accept": "text/plain"}).text
    exported |= {family.name: family for family in parse_text(health_text)}
    found = {
        family.name + ("_total" if family.type == "counter" else ""): (family.type, LABELS.get(family.name, set()))
        for family in exported.values()
    }
    ours = {name for name in found if not name.startswith(("process_", "python_"))}
    assert ours | CPU_TOTALS <= documented.keys()
    assert documented == {name: found.get(name, ("counter", set())) for name in documented}
    assert documented.keys() - CPU_TOTALS <= found.keys()
