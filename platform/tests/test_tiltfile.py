"""The Tiltfile: what Tilt would build, sync and deploy, evaluated with a Starlark interpreter and a model of Tilt."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from manifests import REPOSITORY, Manifest, pod_specs, render, values_of
from tilt import Tilt
from under_test import HAS_DATABASE, PREFIX, SERVICE

CONTEXT = "kind-task-platform"


def read(*, settings: dict[str, Any] | None = None, **options: Any) -> Tilt:
    """With a single service, however many there are; unless the settings override it."""
    return Tilt(REPOSITORY, CONTEXT, settings={"services": [SERVICE]} | (settings or {}), **options).read()


@pytest.fixture(scope="module")
def tilt() -> Tilt:
    return read()


def api(manifests: list[Manifest]) -> dict[str, Any]:
    (container,) = (c for pod in pod_specs(manifests) for c in pod["containers"] if c["name"] == "api")
    return dict(container)


def object_of(kind: str, tilt: Tilt, name: str = SERVICE) -> Manifest:
    (manifest,) = (m for m in tilt.applied if m["kind"] == kind and m["metadata"]["name"] == name)
    return manifest


@pytest.mark.parametrize("context", ["arn:aws:production", "kind-other", "docker-desktop"])
def test_any_other_cluster_is_rejected_with_the_fix(context: str) -> None:
    with pytest.raises(Exception, match=rf"{context}.*make up.*export KUBECONFIG=\$PWD/\.kube/config && tilt up"):
        Tilt(REPOSITORY, context).read()


def test_missing_context_is_rejected() -> None:
    with pytest.raises(Exception, match="the current context is none"):
        Tilt(REPOSITORY, "").read()


def test_dev_stage_of_the_deployed_image_is_built(tilt: Tilt) -> None:
    assert {ref: (build.target, build.build_args) for ref, build in tilt.builds.items()} == {
        SERVICE: ("dev", {"SERVICE": SERVICE})
    }
    assert api(tilt.applied)["image"] == f"{SERVICE}:tilt"


def test_build_context_has_what_the_dockerfile_copies(tilt: Tilt) -> None:
    copied = re.findall(
        r"^COPY ((?:packages|services|scripts)/\S+)", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE
    )
    assert {path.replace("${SERVICE}", SERVICE) for path in copied} == set(tilt.builds[SERVICE].only)


def test_code_is_synced_to_the_watched_folder_and_a_new_lock_rebuilds(tilt: Tilt) -> None:
    build = tilt.builds[SERVICE]
    assert build.syncs == [("packages/chassis/src", "/app/src"), (f"services/{SERVICE}/src", "/app/src")]
    assert "PYTHONPATH=/app/src" in (REPOSITORY / "Dockerfile").read_text()
    assert build.fall_back_on == [f"services/{SERVICE}/requirements.txt"]


def test_single_pod_runs_whatever_the_hpa_of_make_up_set(tilt: Tilt) -> None:
    """Tilt updates only workloads of one pod (internal/store/liveupdates)."""
    hpa = object_of("HorizontalPodAutoscaler", tilt)["spec"]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (1, 1)
    assert "replicas" not in object_of("Deployment", tilt)["spec"]


def test_reload_is_not_delayed(tilt: Tilt) -> None:
    container = api(tilt.applied)
    assert container["resources"]["limits"]["cpu"] == 64, "more CPUs than any machine: no limit"
    assert container["resources"]["limits"]["memory"]
    assert container["resources"]["requests"]["cpu"], "the HPA needs it"
    drain = {variable["name"]: variable.get("value") for variable in container["env"]}[f"{PREFIX}DRAIN_SECONDS"]
    assert drain == "0"
    assert container["livenessProbe"]["periodSeconds"] == 24 * 60 * 60


def test_security_context_differs_only_in_the_root_file_system(tilt: Tilt) -> None:
    chart = render(*(["--set", "database.bundled.existingSecret=x"] if HAS_DATABASE else []))
    deployed, rendered = api(tilt.applied)["securityContext"], api(chart)["securityContext"]
    assert rendered["readOnlyRootFilesystem"] is True
    assert deployed == rendered | {"readOnlyRootFilesystem": False}
    for pod in pod_specs(chart):
        assert pod["securityContext"] in [spec["securityContext"] for spec in pod_specs(tilt.applied)]


def test_every_object_of_the_chart_belongs_to_a_resource(tilt: Tilt) -> None:
    assert tilt.uncategorized() == set()
    databases = [f"{SERVICE}-postgres"] if HAS_DATABASE else []
    assert tilt.resources.keys() == tilt.workloads().keys() == {SERVICE, *databases}
    assert tilt.resources[SERVICE].resource_deps == databases
    for resource in tilt.resources.values():
        assert resource.labels


def test_objects_are_those_of_make_up(tilt: Tilt) -> None:
    released = render(*values_of("values-dev.yaml"))
    assert {(m["kind"], m["metadata"]["name"]) for m in tilt.applied} == {
        (m["kind"], m["metadata"]["name"]) for m in released
    }


def test_database_equals_make_ups_so_that_it_is_not_restarted(tilt: Tilt) -> None:
    """Tilt's own apply labels pods (internal/controllers/core/kubernetesapply); a StatefulSet would replace them."""
    (version,) = tilt.kube_versions
    released = render(*values_of("values-dev.yaml"), kubernetes=version)
    applied = tilt.by_command.get(f"{SERVICE}-postgres", [])
    assert {m["kind"] for m in applied} == ({"StatefulSet", "Service", "NetworkPolicy"} if HAS_DATABASE else set())
    assert applied == [m for m in released if m["metadata"]["name"] == f"{SERVICE}-postgres"]
    assert {name for name, m in tilt.workloads().items() if m["kind"] == "StatefulSet"} == tilt.by_command.keys()


def fields(value: Any, path: str = "") -> set[str]:
    """The paths of an object's values; list elements by name, as an apply merges them."""
    if isinstance(value, dict):
        return {path_ for key, member in value.items() for path_ in fields(member, f"{path}.{key}")}
    if isinstance(value, list) and value and all(isinstance(member, dict) for member in value):
        named = [(member.get("name", number), member) for number, member in enumerate(value)]
        return {path_ for name, member in named for path_ in fields(member, f"{path}[{name}]")}
    return {path}


@pytest.mark.parametrize("version", ["v1.29.14", "v1.36.1"])
def test_no_field_is_removed_or_added_so_that_both_can_alternate(version: str) -> None:
    """An apply keeps missing fields, and a second kind of preStop handler would be rejected."""
    released = render(*values_of("values-dev.yaml"), kubernetes=version)
    node = f"kindest/node:{version}@sha256:{'0' * 64}"
    for tilts in read(environment={"KIND_NODE_IMAGE": node}).applied:
        name = tilts["metadata"]["name"]
        (make_ups,) = (m for m in released if (m["kind"], m["metadata"]["name"]) == (tilts["kind"], name))
        assert fields(tilts) == fields(make_ups)


def test_objects_are_rendered_for_the_kubernetes_of_make_up(tilt: Tilt) -> None:
    (pinned,) = re.findall(r"^KIND_NODE_IMAGE=.*:(v[\d.]+)@", (REPOSITORY / "versions.env").read_text(), re.MULTILINE)
    assert tilt.kube_versions == {pinned}
    assert read(environment={"KIND_NODE_IMAGE": "kindest/node:v1.34.4"}).kube_versions == {"v1.34.4"}


def test_pod_runs_the_command_of_the_dev_stage(tilt: Tilt) -> None:
    assert not {"command", "args"} & api(tilt.applied).keys()


def test_service_is_reachable_in_two_ways() -> None:
    resource = read(environment={"HTTPS_PORT": "9443"}).resources[SERVICE]
    assert [(forward["local"], forward["container"], forward["path"]) for forward in resource.port_forwards] == [
        (8000, 8000, "/docs")
    ]
    assert [link["url"] for link in resource.links] == [f"https://{SERVICE}.localhost:9443/docs"]


def test_port_is_configurable() -> None:
    assert read(settings={"port": "8100"}).resources[SERVICE].port_forwards[0]["local"] == 8100


def test_unknown_setting_or_service_is_rejected() -> None:
    with pytest.raises(Exception, match="specifies prot, which is unknown"):
        read(settings={"prot": "8100"})
    with pytest.raises(Exception, match=rf"There is no chart for taks-api\. The services are: .*\b{SERVICE}\b"):
        read(settings={"services": ["taks-api"]})


def test_slow_or_release_changing_actions_run_only_on_a_click(tilt: Tilt) -> None:
    buttons = tilt.local_resources
    assert {name: button.command for name, button in buttons.items()} == {
        "unit tests": ["make", "test"],
        "end to end": ["make", "up", "e2e"],
        "load": ["make", "load"],
    }
    for button in buttons.values():
        assert not button.auto_init  # `tilt ci` does not wait for it
        assert button.trigger_mode == "manual"
    targets = re.findall(r"^([a-z0-9-]+):.*## ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert {target for button in buttons.values() for target in button.command[1:]} <= set(targets)


def test_second_service_is_discovered_and_gets_the_next_port(tmp_path: Path) -> None:
    for file in ("Tiltfile", "Dockerfile", "versions.env"):
        shutil.copy(REPOSITORY / file, tmp_path)
    for chart in ("service", SERVICE):
        shutil.copytree(REPOSITORY / "platform/helm" / chart, tmp_path / "platform/helm" / chart)
    (tmp_path / "scripts").mkdir()
    shutil.copy(REPOSITORY / "scripts/dev_server.py", tmp_path / "scripts")
    (tmp_path / "packages/chassis/src").mkdir(parents=True)
    (tmp_path / f"services/{SERVICE}/src").mkdir(parents=True)
    (tmp_path / f"services/{SERVICE}/requirements.txt").touch()
    shutil.copytree(tmp_path / f"services/{SERVICE}", tmp_path / "services/work-api")
    for original in (tmp_path / f"platform/helm/{SERVICE}").rglob("*"):
        copy = tmp_path / "platform/helm/work-api" / original.relative_to(tmp_path / f"platform/helm/{SERVICE}")
        if original.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(original.read_text().replace(SERVICE, "work-api"))
    both = Tilt(tmp_path, CONTEXT).read()
    assert both.builds.keys() == {SERVICE, "work-api"}
    assert both.uncategorized() == set()
    assert [r.port_forwards[0]["local"] for r in both.resources.values() if r.port_forwards] == [8000, 8001]
    single = Tilt(tmp_path, CONTEXT, settings={"services": ["work-api"]}).read()
    assert single.builds.keys() == {"work-api"}


def test_evaluation_runs_and_fetches_nothing() -> None:
    text = (REPOSITORY / "Tiltfile").read_text()
    assert "ext://" not in text
    assert not re.search(r"\blocal\(", text)


def test_required_tilt_version_is_set(tilt: Tilt) -> None:
    assert tilt.version_constraint == ">=0.37.3"


# --- validation by the model ----------------------------------------------------------

VALID = """
docker_build('app', '.', target='dev', only=['src', 'lock'], live_update=[fall_back_on(['lock']), sync('src', '/app')])
k8s_yaml(read_file('app.yaml'))
k8s_resource('app', port_forwards=[port_forward(8000, 8000)])
"""
APP_YAML = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec: {template: {metadata: {labels: {}}, spec: {containers: [{name: app, image: "app:1"}]}}}
"""


def model_of(folder: Path, tiltfile: str) -> Tilt:
    (folder / "src").mkdir()
    for name, text in {
        "lock": "",
        "other": "",
        "app.yaml": APP_YAML,
        "Dockerfile": "FROM scratch AS dev\n",
        "Tiltfile": tiltfile,
    }.items():
        (folder / name).write_text(text)
    return Tilt(folder, CONTEXT)


def test_model_accepts_a_valid_tiltfile(tmp_path: Path) -> None:
    tilt = model_of(tmp_path, VALID).read()
    assert tilt.builds["app"].syncs == [("src", "/app")]
    assert tilt.applied[0]["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "tilt"}


@pytest.mark.parametrize(
    ("valid", "invalid", "message"),
    [
        ("docker_build(", "docker_biuld(", "docker_biuld"),
        ("target=", "stage=", "stage"),
        ("target='dev'", "target='prod'", "has no stage prod"),
        ("'src', 'lock'", "'src', 'lokc'", "lokc does not exist"),
        ("'src', 'lock'", "'src/*'", "does not support"),
        ("sync('src'", "sync('scr'", "scr does not exist"),
        ("sync('src'", "sync('other'", "'other' is not a child of any watched"),
        ("fall_back_on(['lock'])", "fall_back_on(['other'])", "'other' is not a child of any watched"),
        ("'/app')", "'app')", "is not absolute"),
        (
            "fall_back_on(['lock']), sync('src', '/app')",
            "sync('src', '/app'), fall_back_on(['lock'])",
            "must appear at the start",
        ),
        ("docker_build('app'", "docker_build('application'", "Image not used in any Kubernetes config: application"),
        ("k8s_resource('app'", "k8s_resource('application'", "unknown resource 'application'"),
        ("port_forwards=", "objects=['app:Secret'], port_forwards=", "0 objects are identified"),
        ("port_forwards=", "objects=['app:Deployment'], port_forwards=", "could be found in remaining"),
        ("port_forwards=", "labels=['a b'], port_forwards=", "Invalid label"),
        ("port_forwards=", "links=['https://app'], port_forwards=", "supports only link()"),
        ("port_forward(8000, 8000)", "'8000:8000'", "supports only port_forward()"),
        ("port_forward(8000, 8000)", "port_forward('8000', 8000)", "a port must be a number"),
        ("port_forward(8000, 8000)", "port_forward(80000, 8000)", "port out of range"),
        ("k8s_yaml(", "k8s_resource('app')\nk8s_yaml(", "a second k8s_resource for 'app'"),
        ("k8s_yaml(", "k8s_yaml(read_file('app.yaml'))\nk8s_yaml(", "Duplicate YAML"),
        (
            "k8s_yaml(",
            "local_resource('a', 'b')\nlocal_resource('a', 'b')\nk8s_yaml(",
            "a resource named 'a' already exists",
        ),
        ("k8s_yaml(", "ci_settings(timeout='ten')\nk8s_yaml(", "ten is not a duration"),
    ],
)
def test_model_rejects_an_invalid_tiltfile(tmp_path: Path, valid: str, invalid: str, message: str) -> None:
    assert valid in VALID
    with pytest.raises(Exception, match=re.escape(message)):
        model_of(tmp_path, VALID.replace(valid, invalid)).read()


def test_tiltfile_means_the_same_in_tilts_starlark() -> None:
    """The interpreter here allows recursion, and counts characters; Tilt's does neither
    (findings/starlark-of-two-languages.sh)."""
    text = (REPOSITORY / "Tiltfile").read_text()
    functions = {node.name: node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    calls = {
        name: {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
        for name, function in functions.items()
    }
    assert calls
    for name in calls:
        reached: set[str] = set()
        todo = {name}
        while todo:
            todo = {below for each in todo for below in calls.get(each, ())} - reached
            reached |= todo
        assert name not in reached, f"{name} is recursive"
    assert text.isascii()
