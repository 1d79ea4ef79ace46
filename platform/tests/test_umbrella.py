"""A chart around others: what it may say of them, and that two aliases of one chart share neither pods nor data."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import LIBRARY, REPOSITORY, Loader, Manifest, environment, render, sets
from scripts.new_service import SKELETONS, copy, forms

HELMS = ["helm", *sorted(str(file) for file in REPOSITORY.glob(".tools/helm-v*"))]
"""Helm as it is installed, and each version that scripts/go-tools.sh has built."""

ALIASES = ("red", "blue")

ALL_ON = {
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
    "database": {"bundled": {"backup": {"enabled": True}}},
}


@pytest.fixture(scope="module")
def umbrella(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chart with two aliases of orders, which has a database, and with order-items, which has one, too."""
    folder = tmp_path_factory.mktemp("around")
    shutil.copytree(LIBRARY, folder / LIBRARY.name)
    around = folder / "around"
    around.mkdir()
    for name in ("orders", "order-items"):
        copy(SKELETONS["postgresql"] / "chart", folder / name, LIBRARY.parent / name, forms(name))
        packaged = ["helm", "package", str(folder / name), "--destination", str(around / "charts")]
        subprocess.run(packaged, check=True, capture_output=True)
    dependencies: list[dict[str, Any]] = [
        {"name": "orders", "version": "0.1.0", "alias": alias, "condition": f"{alias}.enabled", "tags": ["colours"]}
        for alias in ALIASES
    ]
    dependencies.append({"name": "order-items", "version": "0.1.0", "condition": "order-items.enabled"})
    (around / "Chart.yaml").write_text(
        yaml.safe_dump({"apiVersion": "v2", "name": "around", "version": "0.1.0", "dependencies": dependencies})
    )
    values: dict[str, Any] = {
        alias: {"enabled": True, "ingress": {"host": f"{alias}.example.com"}, **ALL_ON} for alias in ALIASES
    }
    values |= {"order-items": {"enabled": True, **ALL_ON}, "tags": {"colours": True}, "global": {"shop": "one"}}
    (around / "values.yaml").write_text(yaml.safe_dump(values))
    return around


def template(umbrella: Path, *arguments: str, helm: str = "helm") -> subprocess.CompletedProcess[str]:
    command = [helm, "template", "shop", str(umbrella), "--kube-version", "1.34.0", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def objects(said: str) -> dict[str, list[Manifest]]:
    """What each chart in the one around it makes, by the chart's alias."""
    found: dict[str, list[Manifest]] = {}
    for document in said.split("\n---\n# Source: around/charts/")[1:]:
        source, text = document.split("\n", 1)
        found.setdefault(source.partition("/")[0], []).extend(yaml.load_all(text, Loader))
    return found


@pytest.fixture(scope="module")
def rendered(umbrella: Path) -> dict[str, list[Manifest]]:
    done = template(umbrella)
    assert done.returncode == 0, done.stderr
    return objects("\n" + done.stdout)


def labels_of_pods(manifests: list[Manifest]) -> list[dict[str, str]]:
    """The labels of each pod that there will be."""
    found = []
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            found.append(manifest["metadata"]["labels"])
        elif manifest["kind"] == "CronJob":
            found.append(manifest["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"])
        elif "template" in manifest.get("spec", {}):
            found.append(manifest["spec"]["template"]["metadata"]["labels"])
    return found


def selectors(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    """Each selector of labels in an object, with where it stands; not of namespaces, which are no pods."""
    if isinstance(value, dict):
        for key, below in value.items():
            if key == "namespaceSelector":
                continue
            if key == "matchLabels" or (key == "selector" and all(isinstance(text, str) for text in below.values())):
                yield f"{path}.{key}", below
            else:
                yield from selectors(below, f"{path}.{key}")
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from selectors(below, f"{path}[{number}]")


def test_each_selector_of_an_alias_finds_pods_of_its_own_and_no_others(rendered: dict[str, list[Manifest]]) -> None:
    assert rendered.keys() == {*ALIASES, "order-items"}
    seen: Counter[str] = Counter()
    for alias, manifests in rendered.items():
        theirs = [
            labels | {"of": other}
            for other, all_of_it in rendered.items()
            for labels in labels_of_pods(all_of_it)
            + [m["metadata"]["labels"] for m in all_of_it if m["kind"] == "Service"]  # a ServiceMonitor finds those
        ]
        for manifest in manifests:
            for path, selector in selectors(manifest.get("spec", {})):
                found = {labels["of"] for labels in theirs if selector.items() <= labels.items()}
                assert found == {alias}, f"{manifest['kind']} {manifest['metadata']['name']} of {alias}: {path}"
                seen[manifest["kind"]] += 1
    assert seen.keys() >= {"Deployment", "StatefulSet", "Service", "NetworkPolicy", "PodDisruptionBudget"}
    assert seen.keys() >= {"ServiceMonitor"}


def test_no_two_objects_have_one_name_and_each_refers_to_its_own(rendered: dict[str, list[Manifest]]) -> None:
    names = Counter((m["kind"], m["metadata"]["name"]) for manifests in rendered.values() for m in manifests)
    assert {name for name, count in names.items() if count > 1} == set()
    for alias in ALIASES:
        whole = yaml.safe_dump(rendered[alias])
        (other,) = set(ALIASES) - {alias}
        assert f"shop-{other}" not in whole
        by_kind = {m["kind"]: m for m in rendered[alias]}
        hpa = by_kind["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
        assert (hpa["kind"], hpa["name"]) == ("Deployment", f"shop-{alias}")
        url = base64.b64decode(by_kind["Secret"]["data"]["url"]).decode()
        assert f"@shop-{alias}-postgres/orders" in url
        assert {m["metadata"]["labels"].get("app") for m in rendered[alias] if m["kind"] == "StatefulSet"} == {
            f"shop-{alias}-postgres"
        }


def test_an_alias_changes_no_name_by_which_the_service_knows_its_settings_and_metrics(
    rendered: dict[str, list[Manifest]],
) -> None:
    """Under a name of another alias the URL of the database would not be read, and the data be in memory."""
    for alias in ALIASES:
        (deployment,) = (m for m in rendered[alias] if m["kind"] == "Deployment")
        settings = environment(deployment["spec"]["template"]["spec"]["containers"][0])
        assert settings["ORDERS_DATABASE_URL"] == {"secretKeyRef": {"name": f"shop-{alias}-database", "key": "url"}}
        assert all(name.startswith("ORDERS_") for name in settings)
        (rules,) = (m for m in rendered[alias] if m["kind"] == "PrometheusRule")
        whole = yaml.safe_dump(rules["spec"], width=1000)
        assert f'orders_health_status{{namespace="default", job="shop-{alias}"}}' in whole
        assert "alert: OrdersDown" in whole


@pytest.mark.parametrize("helm", HELMS, ids=lambda path: Path(path).name)
def test_each_helm_makes_the_same_of_every_alias(umbrella: Path, helm: str) -> None:
    """Helm 3 imports the library's defaults for the first of two aliases alone; the library does it for the second."""
    secrets = sets(*(f"{name}.database.bundled.existingSecret={name}" for name in (*ALIASES, "order-items")))
    # Among them values that are nothing to Go's templates, and one that takes a default out.
    other = [f"{alias}.{value}" for alias in ALIASES for value in ("autoscaling.enabled=false", "replicaCount=2")]
    other.append("blue.resources.limits.cpu=null")
    done = template(umbrella, *secrets, *sets(*other), helm=helm)
    assert done.returncode == 0, done.stderr
    found = objects("\n" + done.stdout)
    assert sorted(m["kind"] for m in found["red"]) == sorted(m["kind"] for m in found["blue"])
    for alias in ALIASES:
        (deployment,) = (m for m in found[alias] if m["kind"] == "Deployment")
        assert deployment["spec"]["replicas"] == 2
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        assert ("cpu" in container["resources"]["limits"]) == (alias == "red")
        assert container["startupProbe"]["failureThreshold"] == 300


@pytest.mark.parametrize("helm", HELMS, ids=lambda path: Path(path).name)
def test_a_condition_and_a_tag_leave_a_chart_out(umbrella: Path, helm: str) -> None:
    done = template(umbrella, *sets("blue.enabled=false", "order-items.enabled=false"), helm=helm)
    assert objects("\n" + done.stdout).keys() == {"red"}, done.stderr
    done = template(umbrella, *sets("red.enabled=null", "blue.enabled=null", "tags.colours=false"), helm=helm)
    assert objects("\n" + done.stdout).keys() == {"order-items"}, done.stderr


@pytest.mark.parametrize("helm", HELMS, ids=lambda path: Path(path).name)
def test_what_two_charts_may_not_share_is_refused_in_a_sentence(umbrella: Path, helm: str) -> None:
    values = (
        *("blue.fullnameOverride=shop-red", "blue.nameOverride=red", "blue.ingress.host=red.example.com"),
        *("blue.database.bundled.existingSecret=a", "red.database.bundled.existingSecret=a"),
    )
    said = template(umbrella, *sets(*values), helm=helm).stderr
    alone = template(umbrella, *sets(*values, "red.enabled=false"), helm=helm)
    assert alone.returncode == 0, alone.stderr
    for what in (
        "name of objects, shop-red",
        "nameOverride or alias, red",
        "host and path, red.example.com/ of nginx",
        "Secret of a bundled database, a",
    ):
        assert re.search(rf"(red|blue) \(\S+\) and (blue|red) \(\S+\) have the same {what}\.", said)
    behind = template(umbrella, *sets("order-items.fullnameOverride=shop-red-postgres"), helm=helm)
    assert "have the same name of objects, shop-red-postgres." in behind.stderr


def test_below_another_path_of_one_host_both_are_served(umbrella: Path) -> None:
    done = template(umbrella, *sets("blue.ingress.host=red.example.com", "blue.ingress.path=/blue"))
    assert done.returncode == 0, done.stderr


def test_a_chart_that_is_switched_off_and_made_all_the_same_says_so(umbrella: Path, tmp_path: Path) -> None:
    around = tmp_path / "around"
    shutil.copytree(umbrella, around)
    text = (around / "Chart.yaml").read_text()
    (around / "Chart.yaml").write_text(text.replace("condition: blue.enabled", "condition: blue.wanted"))
    done = template(around, *sets("blue.enabled=false"))
    assert done.returncode == 1
    assert "enabled is false, but has no effect." in done.stderr
    assert "`condition: blue.enabled`" in done.stderr


def test_alone_a_chart_selects_as_it_always_has() -> None:
    """The selectors of a Deployment and a StatefulSet are immutable: with others no release could be upgraded."""
    folder = SKELETONS["postgresql"] / "chart"
    instance = {"app.kubernetes.io/instance": "your-service"}
    pods_of = [manifest for manifest in render(chart=folder) if manifest["kind"] in ("Deployment", "StatefulSet")]
    assert {manifest["kind"]: manifest["spec"]["selector"]["matchLabels"] for manifest in pods_of} == {
        "Deployment": instance
        | {
            "app": "your-service",
            "app.kubernetes.io/name": "your-service",
            "app.kubernetes.io/component": "api",
        },
        "StatefulSet": instance
        | {
            "app.kubernetes.io/name": "postgres",
            "app.kubernetes.io/component": "database",
        },
    }
