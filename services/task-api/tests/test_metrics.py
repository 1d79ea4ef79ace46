"""The metrics of tasks and their names. What is common to all services is tested in
packages/chassis/tests/test_metrics.py."""

from __future__ import annotations

import re
from collections.abc import Iterator

import asyncpg
import pytest
from expositions import families, value
from pydantic import SecretStr
from running import SERVICE, eventually
from starlette.testclient import TestClient

from task_api.app import create_app
from task_api.settings import Settings
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
"""The metric families and their labels, as Prometheus names them."""

CPU = {"task_api_cpu_periods", "task_api_cpu_throttled_periods", "task_api_cpu_throttled_seconds"}
CPU_TOTALS = {f"{name}_total" for name in CPU}  # only in a container with a CPU limit


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Settings())) as client:
        yield client


def test_metric_families_and_labels_match_the_dashboards(client: TestClient) -> None:
    client.post("/v1/tasks", json={"title": "x"})
    found = families(client.get("/metrics"))
    own = {name for name in found if name.startswith(("http_", "task_api_"))}
    assert own - CPU == LABELS.keys()
    for name, labels in LABELS.items():
        for sample in found[name].samples:
            assert sample.labels.keys() - {"le"} == labels, name
    assert {name for name in found if not name.startswith(("http_", "task_api_", "process_", "python_"))} == set()


def test_a_replayed_response_is_counted(client: TestClient) -> None:
    before = value(client, "task_api_idempotent_replays_total")
    for _ in range(3):
        client.post("/v1/tasks", json={"title": "x"}, headers={"Idempotency-Key": "k"})
    assert value(client, "task_api_idempotent_replays_total") == before + 2


def test_an_open_transaction_shows_in_the_feed_lag(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
        client.post("/v1/tasks", json={"title": "not visible yet"})
        eventually(lambda: lag(client) > 0.2, "the lag")
        portal.call(other.close)
        eventually(lambda: lag(client) == 0, "the end of the lag")


def test_the_table_in_the_docs_matches_the_exported_metrics(client: TestClient) -> None:
    page = (SERVICE.parents[1] / "docs/operate.md").read_text()
    rows = re.findall(r"^\| `([a-z_]+)` \| (gauge|counter|histogram) \| ([^|]*)\|", page, re.MULTILINE)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    client.get("/v1/tasks")
    exported = families(client.get("/metrics")) | families(client.get("/health", headers={"Accept": "text/plain"}))
    found = {
        family.name + ("_total" if family.type == "counter" else ""): (family.type, LABELS.get(family.name, set()))
        for family in exported.values()
    }
    ours = {name for name in found if not name.startswith(("process_", "python_"))}
    assert ours | CPU_TOTALS <= documented.keys()
    assert documented == {name: found.get(name, ("counter", set())) for name in documented}
    assert documented.keys() - CPU_TOTALS <= found.keys()
