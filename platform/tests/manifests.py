"""The chart as it renders and the raw manifests as they stand, for the tests beside this file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

PLATFORM = Path(__file__).parent.parent
REPOSITORY = PLATFORM.parent
CHART = PLATFORM / "helm/task-api"

Manifest = dict[str, Any]


def render(*arguments: str) -> list[Manifest]:
    """What `helm install task-api` would apply, on the oldest Kubernetes that the chart supports."""
    helm = shutil.which("helm")
    assert helm is not None, "helm is needed for these tests: https://helm.sh/docs/intro/install/"
    done = subprocess.run(
        [helm, "template", "task-api", str(CHART), "--kube-version", "1.26.0", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(done.stderr)
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def raw() -> list[Manifest]:
    """What `kubectl apply -f platform/k8s/` would apply."""
    return [
        manifest
        for file in sorted((PLATFORM / "k8s").glob("*.yaml"))
        for manifest in yaml.safe_load_all(file.read_text())
        if manifest
    ]


def pod_specs(manifests: list[Manifest]) -> list[Manifest]:
    return [manifest["spec"]["template"]["spec"] for manifest in manifests if "template" in manifest.get("spec", {})]
