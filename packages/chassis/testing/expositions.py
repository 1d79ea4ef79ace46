"""Prometheus' Accept headers, and parsers of the exposition formats."""

from __future__ import annotations

from collections.abc import Mapping

from httpx2 import Response
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from starlette.testclient import TestClient

OPENMETRICS = "application/openmetrics-text"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def families(response: Response) -> dict[str, Metric]:
    """The metric families of an exposition, by name."""
    assert response.status_code == 200
    openmetrics = response.headers["content-type"].startswith(OPENMETRICS)
    assert response.text.endswith("# EOF\n") == openmetrics
    parse = parse_openmetrics if openmetrics else parse_text
    return {family.name: family for family in parse(response.text)}


def read(response: Response) -> dict[str, float]:
    """The samples of an exposition, by name."""
    return {sample.name: sample.value for family in families(response).values() for sample in family.samples}


def value(client: TestClient, name: str, labels: Mapping[str, str] | None = None) -> float:
    """The current value of a sample, 0 if there is none yet. (Tests in one process share the counters.)"""
    for family in families(client.get("/metrics")).values():
        for sample in family.samples:
            if sample.name == name and sample.labels == (labels or {}):
                return float(sample.value)
    return 0.0
