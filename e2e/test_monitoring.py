"""A real Prometheus, made by its operator, finds the service by the chart's ServiceMonitor and scrapes it."""

from __future__ import annotations

import json
import math
import subprocess
from typing import Any

import httpx2
import pytest
import yaml
from e2e.cluster import NAMESPACE, Cluster
from e2e.eventually import eventually
from e2e.example import EXAMPLE, LOAD_PATH, ROUTE
from under_test import CHART, PACKAGE, SERVICE

ENDPOINTS = {"/health", "/metrics"}

GRAFANA = {"$__rate_interval": "2m", "$namespace": NAMESPACE, "$job": SERVICE}
"""What Grafana puts in the place of its variables; the interval of a rate is four scrapes."""


def rendered(template: str, value: str) -> dict[str, Any]:
    """The object that a template of the chart makes where a value is true."""
    command = [
        "helm",
        "template",
        SERVICE,
        str(CHART),
        "--set",
        f"{value}=true",
        "--show-only",
        f"templates/{template}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    return found


def rules_of_the_chart() -> list[dict[str, Any]]:
    groups = rendered("prometheusrule.yaml", "prometheusRule.enabled")["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


(DASHBOARD,) = rendered("dashboard.yaml", "dashboard.enabled")["data"].values()
QUERIES: list[tuple[str, str]] = [
    (f"{panel['title']}, {target['refId']}", target["expr"])
    for panel in json.loads(DASHBOARD)["panels"]
    for target in panel.get("targets", [])
]


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
def prometheus(monitoring: None, cluster: Cluster) -> Prometheus:
    """Installed by `make up MONITORING=1`, and the release with its ServiceMonitor."""
    assert monitoring is None
    return Prometheus(cluster)


@pytest.fixture(scope="module")
def scraped(prometheus: Prometheus, cluster: Cluster) -> set[str]:
    """The pods, once each has been scraped by both endpoints."""

    def pods() -> set[str] | None:
        ready = {pod.metadata.name for pod in cluster.ready_pods()}
        up = {
            (sample["metric"]["pod"], sample["metric"]["metrics_path"])
            for sample in prometheus.query(f'up{{service="{SERVICE}"}} == 1')
        }
        return ready if ready and up == {(pod, path) for pod in ready for path in ENDPOINTS} else None

    return eventually(pods, "up is 1 for both endpoints of every pod, and for no others", seconds=240)


def test_both_endpoints_of_every_pod_are_up(scraped: set[str]) -> None:
    assert len(scraped) >= 3


@pytest.mark.parametrize(
    ("name", "least"),
    [
        (f"{PACKAGE}_health_status", 1),
        (f"{PACKAGE}_uptime_seconds", 1),
        (f"{PACKAGE}_memory_bytes", 1e7),
        *((name, 0) for name in EXAMPLE.health_metrics),
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
    counted = f'sum(http_requests_total{{job="{SERVICE}", route="{ROUTE}", method="GET", status="200"}})'

    def total() -> float:
        return sum(float(sample["value"][1]) for sample in prometheus.query(counted))

    before = total()
    for _ in range(20):
        assert api.get(LOAD_PATH).status_code == 200
    eventually(lambda: total() >= before + 20, "Prometheus has counted twenty requests more", seconds=120)


@pytest.mark.parametrize(("panel", "query"), QUERIES, ids=[panel for panel, _ in QUERIES])
def test_every_query_of_the_dashboard_has_data_under_load(
    prometheus: Prometheus, scraped: set[str], api: httpx2.Client, panel: str, query: str
) -> None:
    assert scraped
    for variable, value in GRAFANA.items():
        query = query.replace(variable, value)

    def figures() -> list[float] | None:
        for answer, wanted in EXAMPLE.requests(api):
            assert answer.status_code == wanted
        # A route that nobody asks for has none at the moment: 0 / 0 is NaN, which Grafana leaves out.
        return [
            figure for sample in prometheus.query(query) if not math.isnan(figure := float(sample["value"][1]))
        ] or None

    eventually(figures, f"the panel {panel!r} has figures: {query}", seconds=120)


def test_the_rules_are_loaded_and_healthy(prometheus: Prometheus, scraped: set[str]) -> None:
    assert scraped
    ours = rules_of_the_chart()
    recorded = {rule["record"] for rule in ours if "record" in rule}
    alerts = {rule["alert"] for rule in ours if "alert" in rule}
    assert len(recorded) == 4

    def healthy() -> bool:
        rules = prometheus.rules()
        assert {rule["name"] for rule in rules if rule["type"] == "recording"} == recorded
        assert {rule["name"] for rule in rules if rule["type"] == "alerting"} == alerts
        return all(rule["health"] == "ok" for rule in rules)

    eventually(healthy, "every rule is evaluated without an error")
