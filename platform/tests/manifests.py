"""The rendered chart and the raw manifests, for the tests in this folder."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from under_test import CHART as CHART
from under_test import REPOSITORY as REPOSITORY

PLATFORM = Path(__file__).parent.parent
LIBRARY = PLATFORM / "helm/service"
"""The chart with all templates, and the default of every value."""
CHARTS = sorted(file.parent for file in PLATFORM.glob("helm/*/Chart.yaml") if file.parent != LIBRARY)


def values_of(name: str, chart: Path = CHART) -> list[str]:
    """Arguments for a values file of the library, the chart, or both: then the chart's comes last."""
    files = [file for file in (chart.parent / LIBRARY.name / name, chart / name) if file.exists()]
    assert files, f"neither {chart.name} nor the library has {name}"
    return [argument for file in files for argument in ("--values", str(file))]


def values_files(chart: Path) -> dict[str, list[str]]:
    """The same for each values file by name: those for other environments, and those for checks."""
    folders, patterns = (chart.parent / LIBRARY.name, chart), ("ci/*-values.yaml", "values-*.yaml")
    names = {str(file.relative_to(folder)) for folder in folders for p in patterns for file in folder.glob(p)}
    return {name: values_of(name, chart) for name in sorted(names)}


VALUES_FILES = values_files(CHART)


def default_values(chart: Path = CHART) -> dict[str, Any]:
    """The library's defaults, overridden by the chart's."""

    def merged(base: Any, override: Any) -> Any:
        if isinstance(base, dict) and isinstance(override, dict):
            return {
                key: merged(base.get(key, override.get(key)), override.get(key, base.get(key)))
                for key in base | override
            }
        return override

    defaults: dict[str, Any] = merged(
        yaml.safe_load((LIBRARY / "values.yaml").read_text())["exports"]["defaults"],
        yaml.safe_load((chart / "values.yaml").read_text()),
    )
    return defaults


Manifest = dict[str, Any]


class Loader(yaml.CSafeLoader):
    """Rejects duplicate keys, like the API server. Based on libyaml: pure Python takes a third longer."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key) for key, _ in node.value]
        duplicates = {key for key in keys if keys.count(key) > 1}
        assert not duplicates, f"duplicate keys {duplicates}:{node.start_mark}"
        return super().construct_mapping(node, deep)


def render(
    *arguments: str, kubernetes: str = "1.26.0", helm_tests: bool = False, chart: Path = CHART, release: str = ""
) -> list[Manifest]:
    """The manifests that `helm install` of a chart would apply, by default on the oldest supported Kubernetes."""
    files = render_files(*arguments, kubernetes=kubernetes, helm_tests=helm_tests, chart=chart, release=release)
    return [manifest for manifests in files.values() for manifest in manifests]


def render_files(
    *arguments: str, kubernetes: str = "1.26.0", helm_tests: bool = False, chart: Path = CHART, release: str = ""
) -> dict[str, list[Manifest]]:
    """The same by template name; without those of `helm test` unless requested."""
    done = helm_template(*arguments, kubernetes=kubernetes, chart=chart, release=release)
    if done.returncode != 0:
        pytest.fail(done.stderr)
    files: dict[str, list[Manifest]] = {}
    for document in re.split(r"^---\n# Source: ", done.stdout, flags=re.MULTILINE)[1:]:
        source, text = document.split("\n", 1)
        name = source.partition("/templates/")[2]
        if helm_tests or not name.startswith("tests/"):
            files.setdefault(name, []).extend(yaml.load_all(text, Loader))
    return files


def helm_error(*arguments: str, kubernetes: str = "1.26.0", chart: Path = CHART, release: str = "") -> str:
    """Helm's error message for values that the chart rejects."""
    done = helm_template(*arguments, kubernetes=kubernetes, chart=chart, release=release)
    assert done.returncode != 0, f"the chart accepts {arguments}"
    return done.stderr


def helm_template(
    *arguments: str, kubernetes: str = "1.26.0", chart: Path = CHART, release: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs `helm template`; the release name defaults to the chart's."""
    helm = shutil.which("helm")
    assert helm is not None, "helm is needed for these tests: https://helm.sh/docs/intro/install/"
    return subprocess.run(
        [helm, "template", release or _name(chart), str(chart), "--kube-version", kubernetes, *arguments],
        env={**os.environ, "GOGC": "off"},  # garbage collection would take a fifth of its CPU time, to save 10 of 60 MB
        capture_output=True,
        text=True,
        check=False,
    )


def _name(chart: Path) -> str:
    name: str = yaml.safe_load((chart / "Chart.yaml").read_text())["name"]
    return name


def sets(*pairs: str) -> list[str]:
    return [argument for pair in pairs for argument in ("--set", pair)]


def with_json(**values: Any) -> list[str]:
    """Arguments for values of any type; a nested one is `**{"outer.inner": ...}`."""
    return [argument for name, value in values.items() for argument in ("--set-json", f"{name}={json.dumps(value)}")]


def raw_files() -> dict[str, list[Manifest]]:
    """The manifests that `kubectl apply -f platform/k8s/` would apply, by file name."""
    return {
        file.name: [manifest for manifest in yaml.safe_load_all(file.read_text()) if manifest]
        for file in sorted((PLATFORM / "k8s").glob("*.yaml"))
    }


def raw() -> list[Manifest]:
    return [manifest for manifests in raw_files().values() for manifest in manifests]


def pod_specs(manifests: list[Manifest]) -> list[Manifest]:
    """The spec of every pod: of workloads and of standalone pods."""
    jobs = [manifest["spec"]["jobTemplate"] for manifest in manifests if manifest["kind"] == "CronJob"]
    return [
        manifest["spec"] if manifest.get("kind") == "Pod" else manifest["spec"]["template"]["spec"]
        for manifest in manifests + jobs
        if manifest.get("kind") == "Pod" or "template" in (manifest.get("spec") or {})
    ]


def one(kind: str, manifests: list[Manifest]) -> Manifest:
    (manifest,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return manifest


def api_container(manifests: list[Manifest]) -> Manifest:
    container: Manifest = one("Deployment", manifests)["spec"]["template"]["spec"]["containers"][0]
    return container


def decoded(secret: Manifest) -> dict[str, str]:
    """A Secret's data, as text."""
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def environment(container: Manifest) -> dict[str, Any]:
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container["env"]}
