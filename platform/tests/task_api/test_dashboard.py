"""The Grafana dashboard queries the service's exported metrics, of one release at a time."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from exported import METRICS, metrics_of
from manifests import CHART, LIBRARY, one, render, sets
from promtool import BOTH_VERSIONS, Prometheus, promtool

DASHBOARD: dict[str, Any] = json.loads((CHART / "files/dashboard.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS: list[str] = [target["expr"] for panel in PANELS for target in panel["targets"]]

GRAFANA = {"$__rate_interval": "5m", "$namespace": "tasks", "$job": "task-api"}
"""The values that replace Grafana's variables."""


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_every_panel_has_title_unit_and_queries(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_panels_have_unique_titles_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, f"{panel['title']} overlaps another panel"
        taken |= cells


def test_dashboard_is_filtered_by_data_source_namespace_and_service() -> None:
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "namespace", "job"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_every_query_selects_one_release_and_exported_metrics(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert metrics_of(target["expr"]) <= METRICS
        selectors = re.findall(r"\{[^}]*\}", target["expr"])
        assert selectors
        for selector in selectors:
            assert 'namespace="$namespace"' in selector
            assert 'job="$job"' in selector


@pytest.mark.parametrize("prometheus", BOTH_VERSIONS)
def test_prometheus_parses_every_query(prometheus: Prometheus, tmp_path: Path) -> None:
    rules = []
    for number, query in enumerate(EXPRESSIONS):
        expression = query
        for variable, value in GRAFANA.items():
            expression = expression.replace(variable, value)
        rules.append({"record": f"panel:query{number}", "expr": expression})
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool(prometheus, tmp_path, "check", "rules", "queries.yaml")


def test_dashboard_contains_every_panel_of_the_library_chart(tmp_path: Path) -> None:
    """They are duplicated, since their order differs; each panel is identical in both."""
    shutil.copytree(LIBRARY, tmp_path / LIBRARY.name)
    shutil.copytree(CHART, tmp_path / CHART.name, symlinks=True)
    (tmp_path / CHART.name / "files/dashboard.json").unlink()
    (text,) = one("ConfigMap", render(*sets("dashboard.enabled=true"), chart=tmp_path / CHART.name))["data"].values()

    def panels(dashboard: dict[str, Any]) -> dict[str, Any]:
        return {
            panel["title"]: [(target["expr"], target["legendFormat"]) for target in panel.get("targets", [])]
            for panel in dashboard["panels"]
        }

    library_panels, own_panels = panels(json.loads(text)), panels(DASHBOARD)
    assert len(library_panels) > 25
    assert library_panels == {title: own_panels[title] for title in library_panels}
