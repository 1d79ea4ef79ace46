"""The raw manifests are the chart at its defaults; every pod is restricted."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from manifests import CHART, Manifest, pod_specs, raw, render

HELM_ONLY_LABELS = {"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"}


def by_name(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    """The objects by kind and name, without what only Helm writes and without the password's Secret.

    People make that Secret themselves for the raw manifests: no password is written down there.
    """
    found = {}
    for manifest in copy.deepcopy(manifests):
        if manifest["kind"] == "Secret":
            continue
        labels = manifest["metadata"]["labels"]
        manifest["metadata"]["labels"] = {k: v for k, v in labels.items() if k not in HELM_ONLY_LABELS}
        found[manifest["kind"], manifest["metadata"]["name"]] = manifest
    return found


def differences(raw_manifests: list[Manifest], rendered: list[Manifest]) -> list[str]:
    ours, theirs = by_name(raw_manifests), by_name(rendered)
    found = [f"{key} is only in platform/k8s" for key in ours.keys() - theirs.keys()]
    found += [f"{key} is only in the chart" for key in theirs.keys() - ours.keys()]
    for key in ours.keys() & theirs.keys():
        found += _differences(ours[key], theirs[key], "/".join(key))
    return found


def _differences(ours: Any, theirs: Any, path: str) -> list[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [d for k in ours.keys() | theirs.keys() for d in _differences(ours.get(k), theirs.get(k), f"{path}.{k}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [d for n, (a, b) in pairs for d in _differences(a, b, f"{path}[{n}]")]
    return (
        []
        if ours == theirs and type(ours) is type(theirs)
        else [f"{path}: {ours!r} in platform/k8s, {theirs!r} in the chart"]
    )


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for k, v in value.items() for leaf in leaves(v, (*path, k))]
    if isinstance(value, list):
        return [leaf for n, v in enumerate(value) for leaf in leaves(v, (*path, n))]
    return [path]


def test_the_raw_manifests_are_the_chart_at_its_defaults() -> None:
    assert differences(raw(), render()) == []


def test_the_comparison_sees_any_one_field_that_differs() -> None:
    rendered, unchanged = render(), raw()
    for number, manifest in enumerate(unchanged):
        for path in leaves(manifest):
            mutated = copy.deepcopy(unchanged)
            where: Any = mutated[number]
            for step in path[:-1]:
                where = where[step]
            where[path[-1]] = "something else"
            assert differences(mutated, rendered), f"{manifest['kind']}: a change of {path} is not seen"


def test_the_autoscaler_owns_the_number_of_replicas() -> None:
    (deployment,) = (m for m in render() if m["kind"] == "Deployment")
    assert "replicas" not in deployment["spec"]
    (deployment,) = (m for m in render("--set", "autoscaling.enabled=false") if m["kind"] == "Deployment")
    assert deployment["spec"]["replicas"] == 3


def test_an_external_database_leaves_the_bundled_one_out() -> None:
    rendered = render("--set", "database.existingSecret=mine")
    assert not {m["kind"] for m in rendered} & {"StatefulSet", "Secret"}
    (pod,) = pod_specs(rendered)
    assert pod["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "mine", "key": "url"}


def test_with_a_secret_of_ones_own_the_chart_renders_the_same_each_time() -> None:
    values = ("--values", str(CHART / "values-dev.yaml"))
    assert render(*values) == render(*values)
    assert "Secret" not in {m["kind"] for m in render(*values)}


@pytest.mark.parametrize("pod", pod_specs(raw()), ids=lambda pod: pod["containers"][0]["name"])
def test_every_pod_passes_the_restricted_pod_security_standard(pod: Manifest) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    for volume in pod["volumes"]:
        assert volume.keys() - {"name"} <= {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
    for container in pod["containers"] + pod.get("initContainers", []):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert not any("hostPort" in port for port in container["ports"])


@pytest.mark.parametrize("pod", pod_specs(raw()), ids=lambda pod: pod["containers"][0]["name"])
def test_no_pod_gets_a_token_or_the_addresses_of_services(pod: Manifest) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False


def test_pods_have_time_to_drain_before_they_are_killed() -> None:
    from_server = 3 + 1  # task_api.server.GRACEFUL_SECONDS and the store's CLOSE_SECONDS
    (api, _) = pod_specs(raw())
    pre_stop = api["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert pre_stop[0] == "sleep"
    assert int(pre_stop[1]) + from_server < api["terminationGracePeriodSeconds"]


def test_an_all_digits_tag_stays_a_tag() -> None:
    (pod, _) = pod_specs(render("--set-string", "image.tag=12345678"))
    assert pod["containers"][0]["image"] == "your-dockerhub-username/task-api:12345678"


def test_objects_have_the_names_that_people_type() -> None:
    assert {m["metadata"]["name"] for m in render()} == {"task-api", "task-api-postgres", "task-api-database"}
