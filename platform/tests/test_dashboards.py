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
    """Grafana provisions neither of two with the same UID; its sidecar puts files of all namespaces into one folder."""
    releases = [
        (SERVICE, "default"),
        (SERVICE, "staging"),
        (f"{SERVICE}-two", "default"),
        ("r" * 53, "a"),
        ("r" * 52, "a"),
    ]
    found = [dashboard("--namespace", namespace, release=release) for release, namespace in releases]
    assert len({file for file, _ in found}) == len(found)
    assert len({whole["uid"] for _, whole in found}) == len(found)
    assert len({whole["title"] for _, whole in found}) == len(found)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", whole["uid"]) for _, whole in found)  # Grafana's limit
    assert all(re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", file) for file, _ in found)
    assert dashboard() == dashboard()  # an upgrade changes the dashboard instead of adding one


def test_dashboard_preselects_its_own_release() -> None:
    _, whole = dashboard("--namespace", "staging")
    current = {variable["name"]: variable["current"] for variable in whole["templating"]["list"]}
    assert current["namespace"] == {"text": "staging", "value": "staging"}
    assert current["job"] == {"text": SERVICE, "value": SERVICE}
    assert current["datasource"] == {}
