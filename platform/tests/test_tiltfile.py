"""The Tiltfile: what Tilt would build, keep in step and deploy, by a Starlark interpreter and a model of Tilt."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from manifests import REPOSITORY, Manifest, pod_specs, render
from tilt import Tilt

CONTEXT = "kind-task-platform"


def read(*, settings: dict[str, Any] | None = None, **given: Any) -> Tilt:
    """With the first service alone, however many there are; unless the settings say otherwise."""
    return Tilt(REPOSITORY, CONTEXT, settings={"services": ["task-api"]} | (settings or {}), **given).read()


@pytest.fixture(scope="module")
def tilt() -> Tilt:
    return read()


def api(manifests: list[Manifest]) -> dict[str, Any]:
    (container,) = (c for pod in pod_specs(manifests) for c in pod["containers"] if c["name"] == "api")
    return dict(container)


def object_of(kind: str, tilt: Tilt, name: str = "task-api") -> Manifest:
    (found,) = (m for m in tilt.applied if m["kind"] == kind and m["metadata"]["name"] == name)
    return found


@pytest.mark.parametrize("context", ["arn:aws:production", "kind-other", "docker-desktop"])
def test_any_other_cluster_is_refused_with_the_line_that_helps(context: str) -> None:
    with pytest.raises(Exception, match=rf"{context}.*make up.*export KUBECONFIG=\$PWD/\.kube/config && tilt up"):
        Tilt(REPOSITORY, context).read()


def test_no_context_at_all_is_refused_too() -> None:
    with pytest.raises(Exception, match="the current context is none"):
        Tilt(REPOSITORY, "").read()


def test_what_is_built_is_the_dev_stage_of_what_runs(tilt: Tilt) -> None:
    assert {ref: (build.target, build.build_args) for ref, build in tilt.builds.items()} == {
        "task-api": ("dev", {"SERVICE": "task-api"})
    }
    assert api(tilt.applied)["image"] == "task-api:tilt"


def test_the_build_sees_what_the_dockerfile_copies(tilt: Tilt) -> None:
    copied = re.findall(r"^COPY services/\$\{SERVICE\}/(\S+)", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    assert {f"services/task-api/{path}" for path in copied} == set(tilt.builds["task-api"].only)


def test_code_is_copied_to_where_the_reloader_looks_and_a_new_lock_builds_again(tilt: Tilt) -> None:
    build = tilt.builds["task-api"]
    assert build.syncs == [("services/task-api/src", "/app/src")]
    assert "--reload-dir /app/src" in (REPOSITORY / "Dockerfile").read_text()
    assert build.fall_back_on == ["services/task-api/requirements.txt"]


def test_one_pod_runs_whatever_the_hpa_of_make_up_wanted(tilt: Tilt) -> None:
    """Tilt updates a workload of one pod and no other (internal/store/liveupdates)."""
    hpa = object_of("HorizontalPodAutoscaler", tilt)["spec"]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (1, 1)
    assert "replicas" not in object_of("Deployment", tilt)["spec"]


def test_a_reload_is_not_held_up(tilt: Tilt) -> None:
    container = api(tilt.applied)
    assert "cpu" not in container["resources"]["limits"]
    assert container["resources"]["limits"]["memory"]
    assert container["resources"]["requests"]["cpu"], "the HPA needs it"
    drain = {variable["name"]: variable.get("value") for variable in container["env"]}["TASKS_DRAIN_SECONDS"]
    assert drain == "0"
    assert "livenessProbe" not in container
    assert container["startupProbe"]["periodSeconds"] == 1
    assert container["startupProbe"]["failureThreshold"] == 300


def test_of_the_security_context_only_the_root_file_system_differs(tilt: Tilt) -> None:
    chart = render("--set", "database.bundled.existingSecret=x")
    deployed, usual = api(tilt.applied)["securityContext"], api(chart)["securityContext"]
    assert usual["readOnlyRootFilesystem"] is True
    assert deployed == usual | {"readOnlyRootFilesystem": False}
    assert [pod["securityContext"] for pod in pod_specs(tilt.applied)] == [
        pod["securityContext"] for pod in pod_specs(chart)
    ]


def test_every_object_of_the_chart_belongs_to_a_resource(tilt: Tilt) -> None:
    assert tilt.uncategorized() == set()
    assert tilt.resources.keys() == tilt.workloads().keys() == {"task-api", "task-api-postgres"}
    assert tilt.resources["task-api"].resource_deps == ["task-api-postgres"]
    assert "task-api-postgres:NetworkPolicy" in tilt.resources["task-api-postgres"].objects
    for resource in tilt.resources.values():
        assert resource.labels


def test_the_objects_are_those_of_make_up(tilt: Tilt) -> None:
    released = render("--values", str(REPOSITORY / "platform/helm/task-api/values-dev.yaml"))
    assert {(m["kind"], m["metadata"]["name"]) for m in tilt.applied} == {
        (m["kind"], m["metadata"]["name"]) for m in released
    }


def test_two_ways_lead_to_the_service() -> None:
    resource = read(environment={"HTTPS_PORT": "9443"}).resources["task-api"]
    assert [(forward["local"], forward["container"], forward["path"]) for forward in resource.port_forwards] == [
        (8000, 8000, "/docs")
    ]
    assert [link["url"] for link in resource.links] == ["https://task-api.localhost:9443/docs"]


def test_the_port_is_a_setting() -> None:
    assert read(settings={"port": "8100"}).resources["task-api"].port_forwards[0]["local"] == 8100


def test_an_unknown_setting_or_service_is_refused() -> None:
    with pytest.raises(Exception, match="specifies prot, which is unknown"):
        read(settings={"prot": "8100"})
    with pytest.raises(Exception, match=r"There is no chart for taks-api\. The services are: .*\btask-api\b"):
        read(settings={"services": ["taks-api"]})


@pytest.mark.parametrize("subcommand", ["up", "ci"])
def test_what_takes_long_or_changes_the_release_runs_when_it_is_clicked(subcommand: str) -> None:
    buttons = read(subcommand=subcommand).local_resources
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


def test_a_second_service_is_found_by_its_folder_and_gets_the_next_port(tmp_path: Path) -> None:
    for file in ("Tiltfile", "Dockerfile"):
        shutil.copy(REPOSITORY / file, tmp_path)
    shutil.copytree(REPOSITORY / "platform/helm/task-api", tmp_path / "platform/helm/task-api")
    (tmp_path / "services/task-api/src").mkdir(parents=True)
    (tmp_path / "services/task-api/requirements.txt").touch()
    shutil.copytree(tmp_path / "services/task-api", tmp_path / "services/work-api")
    for original in (tmp_path / "platform/helm/task-api").rglob("*"):
        copy = tmp_path / "platform/helm/work-api" / original.relative_to(tmp_path / "platform/helm/task-api")
        if original.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(original.read_text().replace("task-api", "work-api"))
    both = Tilt(tmp_path, CONTEXT).read()
    assert both.builds.keys() == {"task-api", "work-api"}
    assert both.uncategorized() == set()
    assert [r.port_forwards[0]["local"] for r in both.resources.values() if r.port_forwards] == [8000, 8001]
    alone = Tilt(tmp_path, CONTEXT, settings={"services": ["work-api"]}).read()
    assert alone.builds.keys() == {"work-api"}


def test_nothing_outside_is_run_or_fetched_when_it_is_read() -> None:
    text = (REPOSITORY / "Tiltfile").read_text()
    assert "ext://" not in text
    assert not re.search(r"\blocal\(", text)


def test_it_asks_for_the_tilt_that_it_was_written_for(tilt: Tilt) -> None:
    assert tilt.version_constraint == ">=0.37.3"
