"""The dashboards of several releases in one Grafana."""

from __future__ import annotations

import json
import re
from typing import Any

from manifests import one, render, sets
from under_test import SERVICE


def dashboard(*arguments: str, release: str = "") -> tuple[str, dict[str, Any]]:
    ((file, text),) = one("ConfigMap", render(*sets("dashboard.enabled=true"), *arguments, release=release))[
        "data"
    ].items()
    return file, json.loads(text)


def test_dashboards_of_different_releases_differ_in_file_uid_and_title() -> None:
    """Grafana provisions neither of two that share one; its sidecar puts files of all namespaces into one folder."""
    releases = [
        (SERVICE, "default"),
        (SERVICE, "staging"),
        (f"{SERVICE}-two", "default"),
        ("r" * 53, "a"),
        ("r" * 52, "a"),
    ]
    dashboards = [dashboard("--namespace", namespace, release=release) for release, namespace in releases]
    assert len({file for file, _ in dashboards}) == len(dashboards)
    assert len({content["uid"] for _, content in dashboards}) == len(dashboards)
    assert len({content["title"] for _, content in dashboards}) == len(dashboards)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", content["uid"]) for _, content in dashboards)  # Grafana's limit
    assert all(re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", file) for file, _ in dashboards)
    assert dashboard() == dashboard()  # an upgrade changes the dashboard instead of adding one


def test_dashboard_preselects_its_own_release() -> None:
    _, content = dashboard("--namespace", "staging")
    current = {variable["name"]: variable["current"] for variable in content["templating"]["list"]}
    assert current["namespace"] == {"text": "staging", "value": "staging"}
    assert current["job"] == {"text": SERVICE, "value": SERVICE}
    assert current["datasource"] == {}
