"""What decides whether a pod is admitted, pulled and placed reaches every pod of a release; each kind may differ."""

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
    one,
    raw,
    refusal,
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
    """Each pod, or what one is made of, by the kind of the object that it comes from."""
    return {
        manifest["kind"]: manifest
        if manifest["kind"] == "Pod"
        else (manifest["spec"]["jobTemplate"] if manifest["kind"] == "CronJob" else manifest)["spec"]["template"]
        for manifest in manifests
        if manifest["kind"] in {"Deployment", "StatefulSet", "CronJob", "Job", "Pod"}
    }


def released(values: dict[str, Any]) -> dict[str, Manifest]:
    found = pods(render(*BACKUP, *with_json(**values), helm_tests=True))
    assert found.keys() == {"Deployment", "StatefulSet", "CronJob", "Job", "Pod"}
    return found


def test_what_all_pods_have_reaches_every_pod() -> None:
    for kind, pod in released(PLACED | LABELLED).items():
        for name, value in PLACED.items():
            assert pod["spec"][name] == value, f"{kind}: {name}"
        assert pod["metadata"]["labels"].items() >= {"sidecar": "no", "team": "tasks"}.items(), kind
        assert pod["metadata"]["annotations"]["note"] == "well", kind


def test_cloudnativepg_gives_it_to_its_instances() -> None:
    values = PLACED | LABELLED | {"database.cloudNativePG.enabled": True}
    spec = one("Cluster", render(*with_json(**values)))["spec"]
    assert spec["imagePullSecrets"] == PLACED["imagePullSecrets"]
    assert spec["priorityClassName"] == "apis"
    assert spec["affinity"] == PLACED["affinity"] | {name: PLACED[name] for name in ("nodeSelector", "tolerations")}
    assert spec["inheritedMetadata"] == {
        "labels": {"sidecar": "no", "team": "tasks"},
        "annotations": {"note": "well"},
    }
    own: dict[str, Any] = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    spec = one("Cluster", render(*with_json(**values | {"pods.database": {"affinity": own, "nodeSelector": {}}})))[
        "spec"
    ]
    assert spec["affinity"] == {
        "additionalPodAntiAffinity": own["podAntiAffinity"],
        "tolerations": PLACED["tolerations"],
    }


KINDS = {
    "api": {"Deployment"},
    "database": {"StatefulSet", "CronJob", "Job"},
    "backup": {"CronJob", "Job"},
    "test": {"Pod"},
}
"""Whom the value pods.KIND is for."""


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_kind_has_takes_the_place_of_it_and_an_empty_value_takes_it_away(kind: str) -> None:
    own: dict[str, Any] = {
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
    for of, pod in released(PLACED | LABELLED | {f"pods.{kind}": own}).items():
        spec, labels = pod["spec"], pod["metadata"]["labels"]
        container = (spec["containers"] + spec.get("initContainers", []))[0]
        assert labels["team"] == "tasks"
        if of not in KINDS[kind]:
            assert spec["nodeSelector"] == PLACED["nodeSelector"]
            assert spec["securityContext"]["runAsUser"] in {999, 1000}
            assert "kind" not in labels
            continue
        for name in ("imagePullSecrets", "nodeSelector", "affinity"):
            assert spec[name] == own[name], f"{of}: {name}"
        assert not spec.keys() & {"tolerations", "priorityClassName"}
        assert (labels["kind"], labels.get("sidecar")) == (kind, None)
        assert "note" not in pod["metadata"].get("annotations", {})
        # A map is merged with what the chart has, as Helm merges all maps.
        assert spec["securityContext"]["runAsUser"] == 7
        assert container["securityContext"]["runAsGroup"] == 8


def test_near_whom_the_apis_pods_are_says_nothing_of_the_others() -> None:
    near: dict[str, Any] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}}
    for kind, pod in released({"affinity": near | PLACED["affinity"]}).items():
        assert pod["spec"]["affinity"] == (near if kind == "Deployment" else {}) | PLACED["affinity"]


def test_nothing_is_written_where_nothing_is_given() -> None:
    for kind, pod in released({}).items():
        assert not pod["spec"].keys() & {"imagePullSecrets", "nodeSelector", "tolerations", "priorityClassName"}
        assert ("affinity" in pod["spec"]) == (kind == "Deployment")
    assert not one("Cluster", render(*sets("database.cloudNativePG.enabled=true")))["spec"].keys() & {
        *("affinity", "inheritedMetadata", "imagePullSecrets", "priorityClassName")
    }


# --- users ----------------------------------------------------------------------------


def test_a_field_that_is_null_is_taken_out_of_every_pod() -> None:
    (block,) = (b for b in blocks("docs/extend.md") if b.language == "yaml" and "runAsUser: null" in b.text)
    for kind, pod in released(yaml.safe_load(block.text)).items():
        context = pod["spec"]["securityContext"]
        assert not context.keys() & {"runAsUser", "runAsGroup", "fsGroup"}, kind
        assert context["runAsNonRoot"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("values", [{"podSecurityContext": {"supplementalGroups": None}}, {"podSecurityContext": None}])
def test_a_null_for_what_the_chart_does_not_have_is_no_field_either(values: dict[str, Any]) -> None:
    for pod in released(values).values():
        assert "supplementalGroups" not in pod["spec"].get("securityContext", {})


def test_a_context_of_which_nothing_is_left_is_not_written() -> None:
    nothing = dict.fromkeys(("allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"))
    for pod in released({"containerSecurityContext": nothing}).values():
        assert not [c for c in pod["spec"]["containers"] if "securityContext" in c]


# --- resources ------------------------------------------------------------------------


def test_every_container_has_resources_that_values_change() -> None:
    limits = {"limits": {"memory": "333Mi"}}
    resources = ("resources", "helmTest.resources", "database.bundled.resources", "database.bundled.backup.resources")
    bucket = {"database.bundled.backup.s3": {"bucket": "safe", "existingSecret": "keys"}}
    for target in ({}, bucket):
        for kind, pod in released(dict.fromkeys(resources, limits) | target).items():
            for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
                assert container["resources"]["limits"]["memory"] == "333Mi", f"{kind} {container['name']}"


def test_the_quota_of_the_page_is_what_a_release_needs() -> None:
    def amount(quantity: str) -> float:
        for unit, factor in {"m": 0.001, "Mi": 1, "Gi": 1024}.items():
            if quantity.endswith(unit):
                return float(quantity.removesuffix(unit)) * factor
        return float(quantity)

    made = pods(render(helm_tests=True))
    count = {"Deployment": 11, "StatefulSet": 1, "Pod": 1}
    page = " ".join((CHART.parents[2] / "docs/extend.md").read_text().split())
    for kind in ("requests", "limits"):
        for name, unit in (("cpu", 1000), ("memory", 1)):
            needed = sum(
                n * amount(made[of]["spec"]["containers"][0]["resources"][kind][name]) for of, n in count.items()
            )
            said = {f"{needed * unit:.0f}m", f"{needed:g}"} if name == "cpu" else {f"{needed:.0f}Mi"}
            assert any(f"`{kind}.{name}` {text}" in page for text in said), f"{kind}.{name}: {said}"


# --- volumes --------------------------------------------------------------------------


def test_volumes_of_ones_own_come_in_beside_the_charts() -> None:
    volume = {"name": "ca", "configMap": {"name": "our-ca"}}
    mount = {"name": "ca", "mountPath": "/etc/our-ca", "readOnly": True}
    values = {"extraVolumes": [volume], "extraVolumeMounts": [mount], "database.certificatesSecret": "certificates"}
    rendered = render(*with_json(**values))
    assert [v["name"] for v in one("Deployment", rendered)["spec"]["template"]["spec"]["volumes"]] == [
        *("tmp", "database-certificates", "ca")
    ]
    assert api_container(rendered)["volumeMounts"][-1] == mount


@pytest.mark.parametrize(
    ("values", "said"),
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
def test_volumes_that_the_server_would_refuse_are_refused_in_a_sentence(values: dict[str, Any], said: str) -> None:
    assert said in refusal(*with_json(**values))


# --- what goes with it ----------------------------------------------------------------


@pytest.mark.parametrize("file", VALUES_FILES)
def test_every_object_says_what_it_is_a_part_of_and_of_which_version(file: str) -> None:
    for name, (manifest,) in render_files(*VALUES_FILES[file], helm_tests=True).items():
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "task-api", name
        assert labels["app.kubernetes.io/version"] == yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]


def test_what_it_is_a_part_of_may_be_said_otherwise() -> None:
    for manifest in render(*with_json(commonLabels={"app.kubernetes.io/part-of": "shop"}), helm_tests=True):
        assert manifest["metadata"]["labels"]["app.kubernetes.io/part-of"] == "shop"


def test_no_object_excuses_itself_from_a_checker() -> None:
    rendered = [m for arguments in VALUES_FILES.values() for m in render(*arguments, helm_tests=True)]
    for manifest in rendered + raw():
        names = " ".join(manifest["metadata"].get("annotations", {}))
        assert not any(checker in names for checker in ("kube-score", "checkov", "kube-linter")), manifest["metadata"]


@pytest.mark.parametrize("wait", ["", "30"])
def test_a_pod_waits_for_its_database_as_long_as_it_takes_unless_told_otherwise(wait: str) -> None:
    name = "TASKS_DATABASE_WAIT_SECONDS"
    extra = with_json(extraEnv=[{"name": name, "value": wait}]) if wait else []
    set_ = [variable for variable in api_container(render(*extra))["env"] if variable["name"] == name]
    assert set_ == [{"name": name, "value": wait or "inf"}]
    memory = sets("database.inMemory=true", "autoscaling.enabled=false", "replicaCount=1")
    assert name not in environment(api_container(render(*memory)))
