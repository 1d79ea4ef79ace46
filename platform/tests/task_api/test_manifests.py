"""The raw manifests equal the chart at its defaults, object by object and file by file."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from manifests import PLATFORM, VALUES_FILES, Manifest, raw, raw_files, render, render_files, sets

HELM_ONLY_LABELS = {"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"}
IDENTITY = {("kind",), ("metadata",), ("metadata", "name"), ("metadata", "labels")}
"""Labels that identify an object in both. Other labels are compared like everything else."""
MISSING = object()


def by_name(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    """The objects by kind and name, without Helm-specific fields and without the password's Secret.

    For the raw manifests users create that Secret themselves: no password is committed.
    """
    objects = {}
    for manifest in copy.deepcopy(manifests):
        if manifest["kind"] == "Secret":
            continue
        labels = manifest["metadata"]["labels"]
        manifest["metadata"]["labels"] = {k: v for k, v in labels.items() if k not in HELM_ONLY_LABELS}
        objects[manifest["kind"], manifest["metadata"]["name"]] = manifest
    return objects


def differences(raw_manifests: list[Manifest], rendered: list[Manifest]) -> list[str]:
    raw_objects, chart_objects = by_name(raw_manifests), by_name(rendered)
    lines = [f"{key} is only in platform/k8s" for key in raw_objects.keys() - chart_objects.keys()]
    lines += [f"{key} is only in the chart" for key in chart_objects.keys() - raw_objects.keys()]
    for key in raw_objects.keys() & chart_objects.keys():
        lines += _differences(raw_objects[key], chart_objects[key], "/".join(key))
    return lines


def _differences(raw_value: Any, chart_value: Any, path: str) -> list[str]:
    if isinstance(raw_value, dict) and isinstance(chart_value, dict):
        return [
            difference
            for key in raw_value.keys() | chart_value.keys()
            for difference in _differences(raw_value.get(key, MISSING), chart_value.get(key, MISSING), f"{path}.{key}")
        ]
    if isinstance(raw_value, list) and isinstance(chart_value, list) and len(raw_value) == len(chart_value):
        pairs = enumerate(zip(raw_value, chart_value, strict=True))
        return [d for n, (a, b) in pairs for d in _differences(a, b, f"{path}[{n}]")]
    return (
        []
        if raw_value == chart_value and type(raw_value) is type(chart_value)
        else [f"{path}: {raw_value!r} in platform/k8s, {chart_value!r} in the chart"]
    )


def mutations(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
    """Every change of one field: another value, no value, a missing one, an extra one."""
    if isinstance(value, dict):
        yield "added", (*path, "somethingElse"), None
    if path:
        yield "changed", path, "something else"
        yield "emptied", path, None
        if isinstance(path[-1], str):
            yield "removed", path, MISSING
    if isinstance(value, list):
        yield "longer", path, [*value, "something else"]
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from mutations(child, (*path, key))


def mutated(manifest: Manifest, path: tuple[Any, ...], value: Any) -> Manifest:
    manifest = copy.deepcopy(manifest)
    parent: Any = manifest
    for step in path[:-1]:
        parent = parent[step]
    if value is MISSING:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return manifest


def test_raw_manifests_equal_the_chart_at_its_defaults() -> None:
    assert differences(raw(), render()) == []


def test_comparison_detects_a_difference_in_any_field() -> None:
    rendered = {key: [manifest] for key, manifest in by_name(render()).items()}
    count = 0
    for (kind, name), manifest in by_name(raw()).items():
        for what, path, value in mutations(manifest):
            if path in IDENTITY:
                continue
            changed = mutated(manifest, path, value)
            assert differences([changed], rendered[kind, name]), f"{kind} {name}: {path} {what} is not detected"
            count += 1
    assert count > 1000


def test_comparison_detects_a_missing_or_renamed_object() -> None:
    rendered, raw_manifests = render(), raw()
    for number, manifest in enumerate(raw_manifests):
        assert differences([m for n, m in enumerate(raw_manifests) if n != number], rendered)
        for path in (("kind",), ("metadata", "name")):
            renamed = [*raw_manifests]
            renamed[number] = mutated(manifest, path, "another")
            assert differences(renamed, rendered), f"{manifest['kind']}: a change of {path} is not detected"


def test_object_is_in_the_file_of_the_same_name_in_both() -> None:
    rendered = render_files()
    del rendered["database-secret.yaml"]  # users create it themselves: no password is committed
    assert raw_files().keys() == rendered.keys()
    for name, manifests in raw_files().items():
        assert len(manifests) == len(rendered[name]) == 1, f"{name} is not one object"
        assert differences(manifests, rendered[name]) == []


def test_every_template_has_at_most_one_object() -> None:
    for values, arguments in VALUES_FILES.items():
        for name, manifests in render_files(*arguments, helm_tests=True).items():
            assert len(manifests) == 1, f"{name} with {values}"


def test_service_monitor_equals_the_charts() -> None:
    manifests = list(yaml.safe_load_all((PLATFORM / "k8s/monitoring/servicemonitor.yaml").read_text()))
    rendered = render_files(*sets("serviceMonitor.enabled=true"))
    assert differences(manifests, rendered["servicemonitor.yaml"]) == []


def test_applying_the_folder_needs_no_custom_resource_and_no_kustomize() -> None:
    """`kubectl apply -f platform/k8s/` applies each file in the folder, but not in its subfolders."""
    groups = {manifest["apiVersion"].rpartition("/")[0] for manifest in raw()}
    assert groups <= {"", "apps", "autoscaling", "policy", "networking.k8s.io"}
    assert not list((PLATFORM / "k8s").glob("kustomization.y*ml"))


def test_no_object_sets_a_namespace() -> None:
    for arguments in VALUES_FILES.values():
        for manifest in render(*arguments, helm_tests=True) + raw():
            assert "namespace" not in manifest["metadata"]


def test_objects_have_the_documented_names() -> None:
    assert {m["metadata"]["name"] for m in render()} == {"task-api", "task-api-postgres", "task-api-database"}
    assert {m["metadata"]["name"] for m in raw()} == {"task-api", "task-api-postgres"}


def test_exactly_one_line_of_the_deployment_must_be_edited() -> None:
    text = (PLATFORM / "k8s/deployment.yaml").read_text()
    assert text.count("your-dockerhub-username") == 1
    assert "          image: your-dockerhub-username/task-api:latest\n" in text


LONGEST_NAMES = {"StatefulSet": 52, "Cluster": 50}
"""StatefulSet pods have its name plus a revision suffix of 11 characters in a label, and labels are limited to 63
(https://github.com/kubernetes/kubernetes/issues/64023); CloudNativePG rejects more than 50 for its own."""


def labels(value: Any) -> Iterator[tuple[str, str]]:
    """Every label that an object has, sets on pods, or selects."""
    if isinstance(value, dict):
        for key, child in value.items():
            if key in {"labels", "matchLabels"}:
                yield from child.items()
            elif key == "selector" and all(isinstance(text, str) for text in child.values()):
                yield from child.items()  # a Service's
            else:
                yield from labels(child)
    elif isinstance(value, list):
        for child in value:
            yield from labels(child)


@pytest.mark.parametrize("values", VALUES_FILES)
@pytest.mark.parametrize("release", ["r" * 53, f"{'r' * 44}-task-api", f"task-api-{'r' * 44}"])
def test_names_and_labels_fit_with_the_longest_release_name(release: str, values: str) -> None:
    assert len(release) == 53  # Helm's limit
    seen = 0
    for manifest in render(*VALUES_FILES[values], release=release, helm_tests=True):
        name = manifest["metadata"]["name"]
        assert len(name) <= LONGEST_NAMES.get(manifest["kind"], 63), f"{manifest['kind']} {name}"
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name)
        for key, value in labels(manifest):
            assert len(key.rpartition("/")[2]) <= 63, key
            assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", value), f"{key}: {value}"
            seen += 1
    assert seen > 50
