"""/health in the format that the client prefers, and readiness."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest
from expositions import OPENMETRICS, PROMETHEUS_3, read
from fastapi import FastAPI
from hello.service import Hello, Settings
from starlette.testclient import TestClient

from chassis.app import create_app
from chassis.service import HealthTexts

PROMETHEUS_3_PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7," + PROMETHEUS_3
)
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
CHROME = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7"
)
TEXT, JSON = "text/plain", "application/json"


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Hello, Settings())) as client:
        yield client


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (PROMETHEUS_3, OPENMETRICS),
        (PROMETHEUS_3_PROTOBUF, OPENMETRICS),
        (PROMETHEUS_2, OPENMETRICS),
        ("text/plain", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("TEXT/PLAIN; Q=0.9, application/json; q=0.1", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=none", TEXT),
        ("application/*;q=0.1, text/plain;q=0.2", TEXT),
        ("*/*", JSON),  # kubelet, curl, httpx
        (None, JSON),
        ("", JSON),
        ("application/json, text/plain, */*", JSON),  # axios
        (CHROME, JSON),
        ("application/json", JSON),
        ("application/health+json", JSON),
        ("text/*", JSON),
        ("text/plain;q=0", JSON),
        ("application/openmetrics-text;q=0, text/plain", TEXT),
        ("text/plain;q=0.5, application/json;q=0.5", JSON),
        ("text/plain;q=much", JSON),
        ("text/plain;q=nan", JSON),
        ("text/plain;q=", JSON),
        (",;,=;q", JSON),
        ("text/plain" + ",x/y;q=0.1" * 1000, TEXT),
    ],
)
def test_prometheus_gets_metrics_and_other_clients_get_json(
    client: TestClient, accept: str | None, media_type: str
) -> None:
    if accept is None:
        del client.headers["accept"]
    response = client.get("/health", headers={} if accept is None else {"Accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"].split(";")[0] == media_type  # Prometheus checks only this
    assert response.headers["vary"] == "Accept"
    assert response.headers["cache-control"] == "no-store"
    if media_type == JSON:
        assert response.json()["status"] == "ok"
    else:
        samples = read(response)
        assert samples.keys() > {"hello_health_status", "hello_uptime_seconds", "hello_memory_bytes"}
        assert samples["hello_health_status"] == 1


def test_repeated_accept_headers_are_combined(client: TestClient) -> None:
    for lines in ([JSON + ";q=0.1", TEXT], [TEXT, JSON + ";q=0.1"]):
        response = client.get("/health", headers=[("Accept", line) for line in lines])
        assert response.headers["content-type"].startswith(TEXT)


def test_health_reports_version_and_status() -> None:
    with TestClient(create_app(Hello, Settings(revision="abc123"))) as client:
        health = client.get("/health").json()
    assert health["status"] == "ok"
    assert health["version"] == "1.2.3"
    assert health["revision"] == "abc123"
    assert health["uptime_seconds"] > 0
    assert health["storage"] == "none"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert peak / 3 < health["memory_bytes"] < peak * 1.1  # the kernel's two counters differ a little


def test_readiness_lists_its_checks(client: TestClient) -> None:
    assert client.get("/readyz?verbose").text == "[+]started ok\n[+]not-draining ok\nreadyz check passed\n"
    app = client.app
    assert isinstance(app, FastAPI)
    app.state.health_state.draining = True
    response = client.get("/readyz?verbose")
    assert response.status_code == 503
    assert response.text == "[+]started ok\n[-]not-draining failed\nreadyz check failed\n"
    assert client.get("/readyz").text == "not ready: not-draining"
    assert client.get("/livez").status_code == 200


class HelloWithoutCount(Hello):
    """A service without a count."""

    health = HealthTexts()


def test_without_a_count_every_format_of_health_omits_it() -> None:
    with TestClient(create_app(HelloWithoutCount, Settings())) as client:
        health = client.get("/health").json()
        gauges = read(client.get("/health", headers={"Accept": TEXT}))
        documented = client.get("/openapi.json").json()["components"]["schemas"]["Health"]
    assert not [name for name in health if name.endswith("total")]
    assert health.keys() == documented["properties"].keys() == documented["examples"][0].keys()
    assert gauges.keys() == {"hello_health_status", "hello_uptime_seconds", "hello_memory_bytes"}
