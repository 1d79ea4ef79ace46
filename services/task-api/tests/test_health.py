"""What /health reports about tasks. Everything else is tested in packages/chassis/tests/test_probes.py."""

from __future__ import annotations

from expositions import PROMETHEUS_3, read
from pydantic import SecretStr
from starlette.testclient import TestClient

import task_api
from task_api.app import create_app
from task_api.settings import Settings


def test_health_reports_the_task_count_and_the_storage(storage_url: str) -> None:
    settings = Settings(database_url=SecretStr(storage_url))
    with TestClient(create_app(settings)) as client:
        client.post("/v1/tasks", json={"title": "one"})
    with TestClient(create_app(settings)) as client:
        health = client.get("/health").json()
    assert (health["status"], health["version"]) == ("ok", task_api.__version__)
    assert health["tasks_total"] == (0 if storage_url == "memory://" else 1)
    assert health["storage"] == storage_url.split(":")[0]


def test_the_memory_store_has_a_warning_in_health() -> None:
    with TestClient(create_app(Settings())) as client:
        assert "lost when the service stops" in client.get("/health").json()["checks"]["storage"]["detail"]


def test_the_task_count_is_a_prometheus_gauge(storage_url: str) -> None:
    settings = Settings(database_url=SecretStr(storage_url))
    with TestClient(create_app(settings)) as client:
        samples = read(client.get("/health", headers={"Accept": PROMETHEUS_3}))
    assert samples.keys() == {
        "task_api_health_status",
        "task_api_uptime_seconds",
        "task_api_tasks",
        "task_api_memory_bytes",
    }
