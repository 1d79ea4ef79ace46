"""The rights that the pipeline deploys with: what the chart renders and what the script asks for, and nothing more."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import CHARTS, REPOSITORY, render, sets, values_files

DOCUMENTS = list(yaml.safe_load_all((REPOSITORY / "platform/deployer/role.yaml").read_text()))
RULES: list[dict[str, Any]] = next(d for d in DOCUMENTS if d["kind"] == "Role")["rules"]
WRITE = {"get", "list", "watch", "create", "update", "patch", "delete"}

# How the API server counts the kinds that the chart may render.
PLURALS = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses"}

SKELETON = REPOSITORY / "skeletons/postgresql/chart"
ALL_ON = (
    "dashboard.enabled=true",
    "database.cloudNativePG.enabled=true",
    "httpRoute.enabled=true",
    "httpRoute.parentRefs[0].name=any",
    "ingress.enabled=false",
    "prometheusRule.enabled=true",
    "serviceMonitor.enabled=true",
)


def granted() -> dict[tuple[str, str], set[str]]:
    return {
        (group, resource): set(rule["verbs"])
        for rule in RULES
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def rendered() -> set[tuple[str, str]]:
    """By the charts that there are, and by one that has all of the library, as the next service may."""
    everything = [
        m for chart in CHARTS for values in values_files(chart).values() for m in render(*values, chart=chart)
    ]
    everything += render(chart=SKELETON) + render(*sets(*ALL_ON), chart=SKELETON)
    kinds = set()
    for manifest in everything:
        group = manifest["apiVersion"].rpartition("/")[0]
        kinds.add((group, PLURALS.get(manifest["kind"], manifest["kind"].lower() + "s")))
    return kinds


def writes() -> set[tuple[str, str]]:
    return {key for key, verbs in granted().items() if verbs & {"update", "delete"}}


def test_it_may_write_the_kinds_that_the_chart_renders() -> None:
    assert all(granted()[key] == WRITE for key in writes())
    assert rendered() <= writes()


def test_it_may_write_no_other_kinds() -> None:
    assert writes() <= rendered()


def test_what_it_may_do_beside_is_what_the_script_does() -> None:
    beside = {key: verbs for key, verbs in granted().items() if verbs != WRITE}
    assert beside == {
        ("apps", "replicasets"): {"get", "list", "watch"},
        ("", "pods"): {"get", "list", "watch"},
        ("", "events"): {"list"},
        ("", "pods/log"): {"get"},
        ("", "pods/portforward"): {"create", "get"},
        ("coordination.k8s.io", "leases"): {"get", "create", "patch"},
    }


@pytest.mark.parametrize("word", ["*", "escalate", "bind", "impersonate"])
def test_no_rule_grants_more_than_it_says(word: str) -> None:
    assert not any(word in value for rule in RULES for value in rule.values())


def test_it_is_bound_in_its_own_namespace_alone() -> None:
    assert {d["kind"] for d in DOCUMENTS} == {"ServiceAccount", "Role", "RoleBinding"}
    assert all("namespace" not in d["metadata"] for d in DOCUMENTS)


# --- scripts/kubeconfig-ci.sh, without a cluster (with one: e2e/test_deploy.py) --------


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ((), {}, "Usage"),
        (("tasks",), {}, "No cluster given. Set KUBECONFIG"),
        (("tasks",), {"KUBECONFIG": "/nowhere"}, "Create it: kubectl create namespace tasks"),
    ],
)
def test_a_kubeconfig_that_cannot_be_made_says_what_is_missing(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text("#!/bin/sh\nexit 1\n")  # a cluster without the namespace
    kubectl.chmod(0o755)
    done = subprocess.run(
        [REPOSITORY / "scripts/kubeconfig-ci.sh", *arguments],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert not (REPOSITORY / "kubeconfig-ci-tasks").exists()
