"""The library chart: what it makes of a service's few lines, and that every way of taking a chart finds it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from exported import metrics_of
from manifests import (
    CHART,
    CHARTS,
    LIBRARY,
    REPOSITORY,
    api_container,
    decoded,
    environment,
    helm_template,
    one,
    render,
    sets,
    values_files,
)
from promtool import EACH, Prometheus, promtool
from scripts.new_service import SKELETONS, copy, forms
from under_test import HAS_DATABASE

WITHOUT_CHANCE = sets("database.bundled.existingSecret=a") if HAS_DATABASE else []
"""Values with which a chart renders the same each time: without a password that Helm makes."""

LINKS = {"charts/library": "../../service", "values.schema.json": "../service/files/values.schema.json"}
"""Where the library and the schema of its values are, from a chart's folder."""


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the library and the charts of two services: orders has a database, and order-views has none."""
    folder = tmp_path_factory.mktemp("helm")
    shutil.copytree(LIBRARY, folder / LIBRARY.name)
    for name, database in {"orders": "postgresql", "order-views": ""}.items():
        copy(SKELETONS[database] / "chart", folder / name, LIBRARY.parent / name, forms(name))
    return folder


def objects(*, database: bool) -> dict[str, str]:
    """A chart's templates by their paths: of each template of the library that is an object, or the notes, one."""
    paths = {}
    for file in LIBRARY.glob("templates/_*.tpl"):
        name = file.stem[1:]
        if name == "notes":
            path = "NOTES.txt"
        elif "\nkind: " in file.read_text() and (
            database or not name.startswith(("postgres", "cloudnativepg", "database-"))
        ):
            path = f"{name.replace('test-', 'tests/')}.yaml"
        else:
            continue
        paths[path] = f'{{{{- include "service.{name}" . }}}}\n'
    return paths


# --- what it is -----------------------------------------------------------------------


def test_it_knows_no_service() -> None:
    # Of orders its comments speak, as of a service that there may be.
    theirs = {"task-api", *(chart.name for chart in CHARTS)} - {"orders"}
    names = "|".join(re.sub("[-_]", "[-_ ]?", name) for name in theirs) + r"|\btasks?\b|TASKS_"
    files = [file for file in LIBRARY.rglob("*") if file.is_file()]
    assert len(files) > 30
    assert [file for file in files if re.search(names, file.read_text(), re.IGNORECASE)] == []


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: str(chart.name))
def test_every_object_of_a_chart_is_a_line_and_the_links_lead_to_the_library(chart: Path) -> None:
    for link, leads_to in LINKS.items():
        assert (chart / link).is_symlink()
        assert str((chart / link).readlink()) == leads_to
        assert (chart / link).exists()
    for template in (file for file in (chart / "templates").rglob("*") if file.is_file() and file.suffix != ".tpl"):
        assert re.fullmatch(r'\{\{- include "service\.[a-z-]+" \. \}\}\n', template.read_text()), template


@pytest.mark.parametrize("database", SKELETONS)
def test_a_skeletons_chart_has_every_object_of_the_library(database: str) -> None:
    templates = SKELETONS[database] / "chart/templates"
    found = {str(file.relative_to(templates)): file.read_text() for file in templates.rglob("*") if file.is_file()}
    assert len(found) > 10
    assert found == objects(database=bool(database))


def test_a_service_without_a_database_has_none_of_its_objects(charts: Path) -> None:
    rendered = render(chart=charts / "order-views")
    assert {(m["kind"], m["metadata"]["name"]) for m in rendered} == {
        (kind, "order-views")
        for kind in (
            *("Deployment", "Service", "Ingress", "HorizontalPodAutoscaler"),
            *("PodDisruptionBudget", "NetworkPolicy", "ServiceAccount"),
        )
    }
    assert environment(api_container(rendered)).keys() == {"ORDER_VIEWS_DRAIN_SECONDS", "ORDER_VIEWS_GRACEFUL_SECONDS"}
    (dns,) = one("NetworkPolicy", rendered)["spec"]["egress"]
    assert {port["port"] for port in dns["ports"]} == {53, 5353}
    done = helm_template(*sets("database.existingSecret=mine"), chart=charts / "order-views")
    assert done.returncode == 1
    assert "A value of database is set, but order-views has no database." in done.stderr


def test_a_service_with_a_database_has_its_objects_under_its_name(charts: Path) -> None:
    rendered = render(chart=charts / "orders")
    assert {"StatefulSet", "Secret"} <= {m["kind"] for m in rendered}
    url = environment(api_container(rendered))["ORDERS_DATABASE_URL"]
    assert url == {"secretKeyRef": {"name": "orders-database", "key": "url"}}
    secret = decoded(one("Secret", rendered))
    assert secret["url"] == f"postgresql://orders:{secret['password']}@orders-postgres/orders"
    database = one("StatefulSet", rendered)["spec"]["template"]["spec"]["containers"][0]
    assert environment(database).items() >= {"POSTGRES_USER": "orders", "POSTGRES_DB": "orders"}.items()


@pytest.mark.parametrize("name", ["orders", "order-views"])
def test_each_file_of_values_renders(charts: Path, name: str) -> None:
    files = values_files(charts / name)
    assert {"values-dev.yaml", "values-production.yaml", "ci/all-on-values.yaml", "ci/oidc-values.yaml"} <= files.keys()
    for arguments in files.values():
        assert one("Deployment", render(*arguments, chart=charts / name, helm_tests=True))


@pytest.mark.go
@pytest.mark.parametrize("name", ["orders", "order-views"])
def test_the_tests_of_the_library_hold_for_each_service(charts: Path, name: str) -> None:
    files = ("--with-subchart=false", "--file", "../service/tests/*_test.yaml")
    said = run(REPOSITORY / ".tools/helm-unittest", "--strict", *files, name, folder=charts)
    assert int(re.findall(r"Tests: +(\d+) passed", said)[0]) > 20


def test_two_services_in_a_chart_around_them_stay_themselves(charts: Path) -> None:
    around = charts / "around"
    (around / "charts").mkdir(parents=True)
    (around / "Chart.yaml").write_text("apiVersion: v2\nname: around\nversion: 0.1.0\n")
    for name in ("orders", "order-views"):
        shutil.copytree(charts / name, around / "charts" / name)
    rendered = render(chart=around, release="shop")
    prefixes = {
        m["metadata"]["name"]: {re.sub("(_DRAIN|_GRACEFUL|_DATABASE).*", "", name) for name in environment(container)}
        for m in rendered
        if m["kind"] == "Deployment"
        for container in m["spec"]["template"]["spec"]["containers"]
    }
    assert prefixes == {"shop-orders": {"ORDERS"}, "shop-order-views": {"ORDER_VIEWS"}}
    databases = [m["metadata"]["name"] for m in rendered if m["kind"] == "StatefulSet"]
    assert databases == ["shop-orders-postgres"]


@pytest.mark.parametrize("text", ["keep: orders\n", "keeps: [\n"])
def test_what_a_chart_says_of_its_service_and_nobody_reads_is_refused(charts: Path, tmp_path: Path, text: str) -> None:
    shutil.copytree(charts / "orders", tmp_path / "orders")
    (tmp_path / "orders/files/service.yaml").write_text(text)
    done = helm_template(chart=tmp_path / "orders")
    assert done.returncode == 1
    assert "files/service.yaml of the chart has " in done.stderr


# --- alerts and dashboard -------------------------------------------------------------


@pytest.mark.parametrize("prometheus", EACH)
@pytest.mark.parametrize(("name", "metrics"), [("orders", "orders"), ("order-views", "order_views")])
def test_its_alerts_ask_for_the_services_own_metrics_and_have_runbooks(
    charts: Path, tmp_path: Path, prometheus: Prometheus, name: str, metrics: str
) -> None:
    arguments = (*sets("prometheusRule.enabled=true"), "--namespace", "shop")
    spec = one("PrometheusRule", render(*arguments, chart=charts / name, release=f"{name}-two"))["spec"]
    assert [group["name"].removeprefix(f"{name}-two.") for group in spec["groups"]] == [
        *("objective", "service"),
        *(["database"] if name == "orders" else []),
    ]
    runbooks = (REPOSITORY / "docs/operate.md").read_text().lower()
    for rule in (rule for group in spec["groups"] for rule in group["rules"]):
        of_one = (
            rf'namespace="shop", (job="{name}-two"|horizontalpodautoscaler="{name}-two"|cronjob="{name}-two-backup")'
        )
        assert re.search(of_one, rule["expr"])
        assert "stream" not in rule["expr"]
        for metric in metrics_of(rule["expr"]):
            assert re.match(rf"{metrics}[_:]|(http|kube|process)_|up$", metric)
        if "alert" in rule:
            page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
            assert page == "docs/operate.md"
            assert f"\n### {anchor}\n" in runbooks
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(spec))
    promtool(prometheus, tmp_path, "check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml")


def dashboard(chart: Path) -> dict[str, Any]:
    (text,) = one("ConfigMap", render(*sets("dashboard.enabled=true"), chart=chart))["data"].values()
    read: dict[str, Any] = json.loads(text)
    return read


@pytest.mark.parametrize("name", ["orders", "order-views"])
def test_the_panels_of_its_dashboard_lie_side_by_side_without_a_gap(charts: Path, name: str) -> None:
    whole = dashboard(charts / name)
    title = "Orders API" if name == "orders" else "Order Views API"
    assert whole["title"] == f"{title} (default/{name})"
    places = [panel["gridPos"] for panel in whole["panels"]]
    cells = [(p["x"] + x, p["y"] + y) for p in places for x in range(p["w"]) for y in range(p["h"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert {y for _, y in cells} == set(range(max(y for _, y in cells) + 1))
    assert len({panel["id"] for panel in whole["panels"]}) == len(whole["panels"])
    rows = [panel["title"] for panel in whole["panels"] if panel["type"] == "row"]
    assert rows == ["Now", "Requests", "Pods", *(["Database"] if name == "orders" else [])]


# --- how it is taken ------------------------------------------------------------------


def test_a_package_has_the_library_and_nothing_that_checks_it(tmp_path: Path) -> None:
    run("helm", "package", CHART, "--destination", tmp_path, folder=REPOSITORY)
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as tar:
        assert all(member.isfile() for member in tar.getmembers())
        names = {name.removeprefix(f"{CHART.name}/") for name in tar.getnames()}
        tar.extractall(tmp_path, filter="data")
    assert {"values.schema.json", "charts/library/templates/_hpa.tpl", "charts/library/files/alerts.yaml"} <= names
    assert not [name for name in names if re.search(r"(^|/)ci/|(?<!templates/)tests/|gotmpl", name)]
    assert render(*WITHOUT_CHANCE, chart=tmp_path / CHART.name) == render(*WITHOUT_CHANCE)


def test_an_archive_of_the_repository_renders_the_same(tmp_path: Path) -> None:
    """With links as links: `git archive`, and what GitHub makes for a download."""
    files = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "platform/helm", folder=REPOSITORY)
    present = [file for file in files.splitlines() if (REPOSITORY / file).is_symlink() or (REPOSITORY / file).is_file()]
    with tarfile.open(tmp_path / "archive.tar", "w") as tar:
        for file in present:
            tar.add(REPOSITORY / file, arcname=file, recursive=False)
    with tarfile.open(tmp_path / "archive.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    unpacked = tmp_path / "platform/helm" / CHART.name
    assert (unpacked / "charts/library").is_symlink()
    assert render(*WITHOUT_CHANCE, chart=unpacked) == render(*WITHOUT_CHANCE)
    refused = helm_template(*sets("replicaCuont=3"), chart=unpacked)
    assert refused.returncode == 1
    assert "replicaCuont" in refused.stderr
