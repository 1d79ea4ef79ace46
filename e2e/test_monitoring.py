"""A real Prometheus, made by its operator, finds the service by the chart's ServiceMonitor and scrapes it."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import httpx2
import pytest
from e2e.conftest import REPOSITORY, Cluster, eventually

ENDPOINTS = {"/health", "/metrics"}


class Prometheus:
    """The Prometheus in the cluster, asked by way of the Kubernetes API."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The samples that an expression gives at the moment: each with `metric` (its labels) and `value`."""
        answer = self._get("query", query=promql)
        samples: list[dict[str, Any]] = answer["result"]
        return samples

    def rules(self) -> list[dict[str, Any]]:
        """The rules that it evaluates."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, what: str, **parameters: str) -> Any:
        path = f"/api/v1/namespaces/monitoring/services/prometheus-operated:9090/proxy/api/v1/{what}"
        client = self._cluster.core.api_client
        request = client.param_serialize(
            "GET", path, query_params=list(parameters.items()), auth_settings=["BearerToken"]
        )
        answer = client.call_api(*request)
        return json.loads(answer.read())["data"]


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster) -> Prometheus:
    """Installed by `make up MONITORING=1`, and the release with its ServiceMonitor."""
    done = subprocess.run(
        ["make", "up"],
        cwd=REPOSITORY,
        env={**os.environ, "MONITORING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Prometheus(cluster)


@pytest.fixture(scope="module")
def scraped(prometheus: Prometheus, cluster: Cluster) -> set[str]:
    """The pods, once each has been scraped by both endpoints."""

    def pods() -> set[str] | None:
        ready = {pod.metadata.name for pod in cluster.ready_pods()}
        up = {
            (sample["metric"]["pod"], sample["metric"]["metrics_path"])
            for sample in prometheus.query('up{service="task-api"} == 1')
        }
        return ready if ready and up == {(pod, path) for pod in ready for path in ENDPOINTS} else None

    return eventually(pods, "up is 1 for both endpoints of every pod, and for no others", seconds=240)


def test_both_endpoints_of_every_pod_are_up(scraped: set[str]) -> None:
    assert len(scraped) >= 3


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("task_api_health_status", 1),
        ("task_api_uptime_seconds", 1),
        ("task_api_tasks", 0),
        ("task_api_memory_bytes", 1e7),
    ],
)
def test_the_figures_of_health_can_be_queried(
    prometheus: Prometheus, scraped: set[str], name: str, least: float
) -> None:
    samples = {sample["metric"]["pod"]: float(sample["value"][1]) for sample in prometheus.query(name)}
    assert samples.keys() >= scraped
    assert all(samples[pod] >= least for pod in scraped), samples


def test_requests_are_counted_by_route(prometheus: Prometheus, scraped: set[str], api: httpx2.Client) -> None:
    assert scraped
    counted = 'sum(http_requests_total{route="/v1/tasks", method="GET", status="200"})'

    def total() -> float:
        return sum(float(sample["value"][1]) for sample in prometheus.query(counted))

    before = total()
    for _ in range(20):
        assert api.get("/v1/tasks?page_size=1").status_code == 200
    eventually(lambda: total() >= before + 20, "Prometheus has counted twenty requests more", seconds=120)


def test_the_alerts_are_loaded_and_healthy(prometheus: Prometheus, scraped: set[str]) -> None:
    assert scraped

    def alerts() -> list[dict[str, Any]] | None:
        found = [rule for rule in prometheus.rules() if rule["type"] == "alerting"]
        return found if found and all(rule["health"] == "ok" for rule in found) else None

    eventually(alerts, "every alert is evaluated without an error")
