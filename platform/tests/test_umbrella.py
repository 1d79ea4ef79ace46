"""Umbrella charts: what they can configure, and that two aliases of one chart share neither pods nor data."""

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
"""The installed Helm, and each version built by scripts/go-tools.sh."""

ALIASES = ("red", "blue")

ALL_ON = {
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
    "database": {"bundled": {"backup": {"enabled": True}}},
}


@pytest.fixture(scope="module")
def umbrella(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chart with two aliases of orders, which has a database, and with order-items, which also has one."""
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


def objects(output: str) -> dict[str, list[Manifest]]:
    """The objects of each subchart, by its alias."""
    by_alias: dict[str, list[Manifest]] = {}
    for document in output.split("\n---\n# Source: around/charts/")[1:]:
        source, text = document.split("\n", 1)
        by_alias.setdefault(source.partition("/")[0], []).extend(yaml.load_all(text, Loader))
    return by_alias


@pytest.fixture(scope="module")
def rendered(umbrella: Path) -> dict[str, list[Manifest]]:
    done = template(umbrella)
    assert done.returncode == 0, done.stderr
    return objects("\n" + done.stdout)


def labels_of_pods(manifests: list[Manifest]) -> list[dict[str, str]]:
    """The labels of each future pod."""
    labels = []
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            labels.append(manifest["metadata"]["labels"])
        elif manifest["kind"] == "CronJob":
            labels.append(manifest["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"])
        elif "template" in manifest.get("spec", {}):
            labels.append(manifest["spec"]["template"]["metadata"]["labels"])
    return labels


def selectors(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    """Each label selector in an object, with its path; without namespace selectors."""
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


def test_selectors_of_an_alias_match_only_its_own_pods(rendered: dict[str, list[Manifest]]) -> None:
    assert rendered.keys() == {*ALIASES, "order-items"}
    counts: Counter[str] = Counter()
    for alias, manifests in rendered.items():
        candidates = [
            labels | {"of": other}
            for other, objects_ in rendered.items()
            for labels in labels_of_pods(objects_)
            + [m["metadata"]["labels"] for m in objects_ if m["kind"] == "Service"]  # matched by a ServiceMonitor
        ]
        for manifest in manifests:
            for path, selector in selectors(manifest.get("spec", {})):
                owners = {labels["of"] for labels in candidates if selector.items() <= labels.items()}
                assert owners == {alias}, f"{manifest['kind']} {manifest['metadata']['name']} of {alias}: {path}"
                counts[manifest["kind"]] += 1
    assert counts.keys() >= {"Deployment", "StatefulSet", "Service", "NetworkPolicy", "PodDisruptionBudget"}
    assert counts.keys() >= {"ServiceMonitor"}


def test_object_names_are_unique_and_references_stay_within_an_alias(rendered: dict[str, list[Manifest]]) -> None:
    names = Counter((m["kind"], m["metadata"]["name"]) for manifests in rendered.values() for m in manifests)
    assert {name for name, count in names.items() if count > 1} == set()
    for alias in ALIASES:
        text = yaml.safe_dump(rendered[alias])
        (other_alias,) = set(ALIASES) - {alias}
        assert f"shop-{other_alias}" not in text
        by_kind = {m["kind"]: m for m in rendered[alias]}
        hpa = by_kind["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
        assert (hpa["kind"], hpa["name"]) == ("Deployment", f"shop-{alias}")
        url = base64.b64decode(by_kind["Secret"]["data"]["url"]).decode()
        assert f"@shop-{alias}-postgres/orders" in url
        assert {m["metadata"]["labels"].get("app") for m in rendered[alias] if m["kind"] == "StatefulSet"} == {
            f"shop-{alias}-postgres"
        }


def test_alias_does_not_rename_settings_and_metrics(
    rendered: dict[str, list[Manifest]],
) -> None:
    """With renamed settings the database URL would be ignored, and data kept in memory."""
    for alias in ALIASES:
        (deployment,) = (m for m in rendered[alias] if m["kind"] == "Deployment")
        settings = environment(deployment["spec"]["template"]["spec"]["containers"][0])
        assert settings["ORDERS_DATABASE_URL"] == {"secretKeyRef": {"name": f"shop-{alias}-database", "key": "url"}}
        assert all(name.startswith("ORDERS_") for name in settings)
        (rules,) = (m for m in rendered[alias] if m["kind"] == "PrometheusRule")
        text = yaml.safe_dump(rules["spec"], width=1000)
        assert f'orders_health_status{{namespace="default", job="shop-{alias}"}}' in text
        assert "alert: OrdersDown" in text


@pytest.mark.parametrize("helm", HELMS, ids=lambda path: Path(path).name)
def test_every_helm_renders_every_alias_identically(umbrella: Path, helm: str) -> None:
    """Helm 3 imports the library's defaults only for the first of two aliases; the library does it for the second."""
    secrets = sets(*(f"{name}.database.bundled.existingSecret={name}" for name in (*ALIASES, "order-items")))
    # Including values that Go's templates treat as empty, and one that removes a default.
    overrides = [f"{alias}.{value}" for alias in ALIASES for value in ("autoscaling.enabled=false", "replicaCount=2")]
    overrides.append("blue.resources.limits.cpu=null")
    done = template(umbrella, *secrets, *sets(*overrides), helm=helm)
    assert done.returncode == 0, done.stderr
    rendered_objects = objects("\n" + done.stdout)
    assert sorted(m["kind"] for m in rendered_objects["red"]) == sorted(m["kind"] for m in rendered_objects["blue"])
    for alias in ALIASES:
        (deployment,) = (m for m in rendered_objects[alias] if m["kind"] == "Deployment")
        assert deployment["spec"]["replicas"] == 2
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        assert ("cpu" in container["resources"]["limits"]) == (alias == "red")
        assert container["startupProbe"]["failureThreshold"] == 300


@pytest.mark.parametrize("helm", HELMS, ids=lambda path: Path(path).name)
def test_condition_and_tag_disable_a_subchart(umbrella: Path, helm: str) -> None:
    done = template(umbrella, *sets("blue.enabled=false", "order-items.enabled=false"), helm=helm)
    assert objects("\n" + done.stdout).keys() == {"red"}, done.stderr
    done = template(umbrella, *sets("red.enabled=null", "blue.enabled=null", "tags.colours=false"), helm=helm)
    assert objects("\n" + done.stdout).keys() == {"order-items"}, done.stderr


@pytest.mark.parametrize("helm", HELMS, ids=lambda path: Path(path).name)
def test_conflicts_between_subcharts_are_rejected_with_a_message(umbrella: Path, helm: str) -> None:
    values = (
        *("blue.fullnameOverride=shop-red", "blue.nameOverride=red", "blue.ingress.host=red.example.com"),
        *("blue.database.bundled.existingSecret=a", "red.database.bundled.existingSecret=a"),
    )
    message = template(umbrella, *sets(*values), helm=helm).stderr
    without_red = template(umbrella, *sets(*values, "red.enabled=false"), helm=helm)
    assert without_red.returncode == 0, without_red.stderr
    for what in (
        "name of objects, shop-red",
        "nameOverride or alias, red",
        "host and path, red.example.com/ of nginx",
        "Secret of a bundled database, a",
    ):
        assert re.search(rf"(red|blue) \(\S+\) and (blue|red) \(\S+\) have the same {what}\.", message)
    behind = template(umbrella, *sets("order-items.fullnameOverride=shop-red-postgres"), helm=helm)
    assert "have the same name of objects, shop-red-postgres." in behind.stderr


def test_both_are_served_below_different_paths_of_one_host(umbrella: Path) -> None:
    done = template(umbrella, *sets("blue.ingress.host=red.example.com", "blue.ingress.path=/blue"))
    assert done.returncode == 0, done.stderr


def test_disabled_chart_that_is_rendered_anyway_fails(umbrella: Path, tmp_path: Path) -> None:
    around = tmp_path / "around"
    shutil.copytree(umbrella, around)
    text = (around / "Chart.yaml").read_text()
    (around / "Chart.yaml").write_text(text.replace("condition: blue.enabled", "condition: blue.wanted"))
    done = template(around, *sets("blue.enabled=false"))
    assert done.returncode == 1
    assert "enabled is false, but has no effect." in done.stderr
    assert "`condition: blue.enabled`" in done.stderr


def test_standalone_chart_keeps_its_selectors() -> None:
    """The selectors of a Deployment and a StatefulSet are immutable: changed ones would break every upgrade."""
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
