"""Settings for admission, image pulls and scheduling reach every pod of a release, and can be overridden per kind."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from documentation import blocks
from manifests import (
    CHART,
    VALUES_FILES,
    Manifest,
    api_container,
    environment,
    helm_error,
    one,
    raw,
    render,
    render_files,
    sets,
    with_json,
)

BACKUP = sets("database.bundled.backup.enabled=true")
PLACED: dict[str, Any] = {
    "imagePullSecrets": [{"name": "my-registry"}],
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "priorityClassName": "apis",
}
LABELLED: dict[str, Any] = {
    "podLabels": {"sidecar": "no"},
    "podAnnotations": {"note": "well"},
    "commonLabels": {"team": "tasks"},
}


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Each pod or pod template, by its object's kind."""
    return {
        manifest["kind"]: manifest
        if manifest["kind"] == "Pod"
        else (manifest["spec"]["jobTemplate"] if manifest["kind"] == "CronJob" else manifest)["spec"]["template"]
        for manifest in manifests
        if manifest["kind"] in {"Deployment", "StatefulSet", "CronJob", "Job", "Pod"}
    }


def release_pods(values: dict[str, Any]) -> dict[str, Manifest]:
    by_kind = pods(render(*BACKUP, *with_json(**values), helm_tests=True))
    assert by_kind.keys() == {"Deployment", "StatefulSet", "CronJob", "Job", "Pod"}
    return by_kind


def test_common_settings_reach_every_pod() -> None:
    for kind, pod in release_pods(PLACED | LABELLED).items():
        for name, value in PLACED.items():
            assert pod["spec"][name] == value, f"{kind}: {name}"
        assert pod["metadata"]["labels"].items() >= {"sidecar": "no", "team": "tasks"}.items(), kind
        assert pod["metadata"]["annotations"]["note"] == "well", kind


def test_cloudnativepg_passes_them_to_its_instances() -> None:
    values = PLACED | LABELLED | {"database.cloudNativePG.enabled": True}
    spec = one("Cluster", render(*with_json(**values)))["spec"]
    assert spec["imagePullSecrets"] == PLACED["imagePullSecrets"]
    assert spec["priorityClassName"] == "apis"
    assert spec["affinity"] == PLACED["affinity"] | {name: PLACED[name] for name in ("nodeSelector", "tolerations")}
    assert spec["inheritedMetadata"] == {
        "labels": {"sidecar": "no", "team": "tasks"},
        "annotations": {"note": "well"},
    }
    affinity: dict[str, Any] = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    spec = one("Cluster", render(*with_json(**values | {"pods.database": {"affinity": affinity, "nodeSelector": {}}})))[
        "spec"
    ]
    assert spec["affinity"] == {
        "additionalPodAntiAffinity": affinity["podAntiAffinity"],
        "tolerations": PLACED["tolerations"],
    }


KINDS = {
    "api": {"Deployment"},
    "database": {"StatefulSet", "CronJob", "Job"},
    "backup": {"CronJob", "Job"},
    "test": {"Pod"},
}
"""The objects configured by pods.KIND."""


@pytest.mark.parametrize("kind", KINDS)
def test_settings_of_a_kind_override_the_common_ones_and_empty_values_remove_them(kind: str) -> None:
    overrides: dict[str, Any] = {
        "imagePullSecrets": [{"name": "another"}],
        "nodeSelector": {"pool": kind},
        "tolerations": [],
        "affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "priorityClassName": "",
        "podLabels": {"kind": kind},
        "podAnnotations": {},
        "podSecurityContext": {"runAsUser": 7},
        "containerSecurityContext": {"runAsGroup": 8},
    }
    for object_kind, pod in release_pods(PLACED | LABELLED | {f"pods.{kind}": overrides}).items():
        spec, labels = pod["spec"], pod["metadata"]["labels"]
        container = (spec["containers"] + spec.get("initContainers", []))[0]
        assert labels["team"] == "tasks"
        if object_kind not in KINDS[kind]:
            assert spec["nodeSelector"] == PLACED["nodeSelector"]
            assert spec["securityContext"]["runAsUser"] in {999, 1000}
            assert "kind" not in labels
            continue
        for name in ("imagePullSecrets", "nodeSelector", "affinity"):
            assert spec[name] == overrides[name], f"{object_kind}: {name}"
        assert not spec.keys() & {"tolerations", "priorityClassName"}
        assert (labels["kind"], labels.get("sidecar")) == (kind, None)
        assert "note" not in pod["metadata"].get("annotations", {})
        # Maps are merged with the chart's, like all maps in Helm.
        assert spec["securityContext"]["runAsUser"] == 7
        assert container["securityContext"]["runAsGroup"] == 8


def test_default_affinity_of_the_api_does_not_apply_to_other_pods() -> None:
    near: dict[str, Any] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}}
    for kind, pod in release_pods({"affinity": near | PLACED["affinity"]}).items():
        assert pod["spec"]["affinity"] == (near if kind == "Deployment" else {}) | PLACED["affinity"]


def test_unset_values_render_nothing() -> None:
    for kind, pod in release_pods({}).items():
        assert not pod["spec"].keys() & {"imagePullSecrets", "nodeSelector", "tolerations", "priorityClassName"}
        assert ("affinity" in pod["spec"]) == (kind == "Deployment")
    assert not one("Cluster", render(*sets("database.cloudNativePG.enabled=true")))["spec"].keys() & {
        *("affinity", "inheritedMetadata", "imagePullSecrets", "priorityClassName")
    }


# --- users ----------------------------------------------------------------------------


def test_null_removes_a_field_from_every_pod() -> None:
    (block,) = (b for b in blocks("docs/extend.md") if b.language == "yaml" and "runAsUser: null" in b.text)
    for kind, pod in release_pods(yaml.safe_load(block.text)).items():
        context = pod["spec"]["securityContext"]
        assert not context.keys() & {"runAsUser", "runAsGroup", "fsGroup"}, kind
        assert context["runAsNonRoot"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("values", [{"podSecurityContext": {"supplementalGroups": None}}, {"podSecurityContext": None}])
def test_null_for_a_field_without_default_is_ignored(values: dict[str, Any]) -> None:
    for pod in release_pods(values).values():
        assert "supplementalGroups" not in pod["spec"].get("securityContext", {})


def test_empty_security_context_is_omitted() -> None:
    nothing = dict.fromkeys(("allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"))
    for pod in release_pods({"containerSecurityContext": nothing}).values():
        assert not [c for c in pod["spec"]["containers"] if "securityContext" in c]


# --- resources ------------------------------------------------------------------------


def test_every_container_has_configurable_resources() -> None:
    limits = {"limits": {"memory": "333Mi"}}
    resources = ("resources", "helmTest.resources", "database.bundled.resources", "database.bundled.backup.resources")
    bucket = {"database.bundled.backup.s3": {"bucket": "safe", "existingSecret": "keys"}}
    for target in ({}, bucket):
        for kind, pod in release_pods(dict.fromkeys(resources, limits) | target).items():
            for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
                assert container["resources"]["limits"]["memory"] == "333Mi", f"{kind} {container['name']}"


def test_documented_quota_is_what_a_release_needs() -> None:
    def amount(quantity: str) -> float:
        for unit, factor in {"m": 0.001, "Mi": 1, "Gi": 1024}.items():
            if quantity.endswith(unit):
                return float(quantity.removesuffix(unit)) * factor
        return float(quantity)

    pods_by_kind = pods(render(helm_tests=True))
    count = {"Deployment": 11, "StatefulSet": 1, "Pod": 1}
    page = " ".join((CHART.parents[2] / "docs/extend.md").read_text().split())
    for kind in ("requests", "limits"):
        for name, unit in (("cpu", 1000), ("memory", 1)):
            needed = sum(
                n * amount(pods_by_kind[of]["spec"]["containers"][0]["resources"][kind][name])
                for of, n in count.items()
            )
            notations = {f"{needed * unit:.0f}m", f"{needed:g}"} if name == "cpu" else {f"{needed:.0f}Mi"}
            assert any(f"`{kind}.{name}` {text}" in page for text in notations), f"{kind}.{name}: {notations}"


# --- volumes --------------------------------------------------------------------------


def test_custom_volumes_are_added_to_the_charts() -> None:
    volume = {"name": "ca", "configMap": {"name": "our-ca"}}
    mount = {"name": "ca", "mountPath": "/etc/our-ca", "readOnly": True}
    values = {"extraVolumes": [volume], "extraVolumeMounts": [mount], "database.certificatesSecret": "certificates"}
    rendered = render(*with_json(**values))
    assert [v["name"] for v in one("Deployment", rendered)["spec"]["template"]["spec"]["volumes"]] == [
        *("tmp", "database-certificates", "ca")
    ]
    assert api_container(rendered)["volumeMounts"][-1] == mount


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"extraVolumes": [{"name": "tmp"}]},
            "extraVolumes has tmp, which the chart defines. Choose another name.",
        ),
        ({"extraVolumes": [{"name": "a"}, {"name": "a"}]}, "extraVolumes has a twice. Remove one of them."),
        (
            {"extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}]},
            "extraVolumeMounts has ca, but extraVolumes has no volume of that name. Add it there.",
        ),
        (
            {"extraVolumeMounts": [{"name": "ca", "mountPath": "/run/secrets/tokens/"}]},
            "extraVolumeMounts has /run/secrets/tokens/, where the chart or another entry mounts a volume.",
        ),
    ],
)
def test_volumes_that_the_server_would_reject_are_rejected_with_a_message(values: dict[str, Any], message: str) -> None:
    assert message in helm_error(*with_json(**values))


# --- common metadata ------------------------------------------------------------------


@pytest.mark.parametrize("file", VALUES_FILES)
def test_every_object_has_part_of_and_version_labels(file: str) -> None:
    for name, (manifest,) in render_files(*VALUES_FILES[file], helm_tests=True).items():
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "task-api", name
        assert labels["app.kubernetes.io/version"] == yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]


def test_part_of_label_can_be_overridden() -> None:
    for manifest in render(*with_json(commonLabels={"app.kubernetes.io/part-of": "shop"}), helm_tests=True):
        assert manifest["metadata"]["labels"]["app.kubernetes.io/part-of"] == "shop"


def test_no_object_disables_a_linter_check() -> None:
    rendered = [m for arguments in VALUES_FILES.values() for m in render(*arguments, helm_tests=True)]
    for manifest in rendered + raw():
        names = " ".join(manifest["metadata"].get("annotations", {}))
        assert not any(checker in names for checker in ("kube-score", "kube-linter")), manifest["metadata"]


@pytest.mark.parametrize("wait", ["", "30"])
def test_pods_wait_for_the_database_without_limit_unless_configured(wait: str) -> None:
    name = "TASKS_DATABASE_WAIT_SECONDS"
    extra = with_json(extraEnv=[{"name": name, "value": wait}]) if wait else []
    set_ = [variable for variable in api_container(render(*extra))["env"] if variable["name"] == name]
    assert set_ == [{"name": name, "value": wait or "inf"}]
    memory = sets("database.inMemory=true", "autoscaling.enabled=false", "replicaCount=1")
    assert name not in environment(api_container(render(*memory)))
