"""The Tiltfile, evaluated by a Starlark interpreter against a model of the Tilt functions that it calls."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from typing import Any

import pytest
import starlark as sl
import yaml
from manifests import REPOSITORY, render


@dataclass
class Tilt:
    """What the Tiltfile asked for. The signatures are those of Tilt 0.37: an unknown argument is an error."""

    context: str
    builds: dict[str, dict[str, Any]] = field(default_factory=dict)
    applied: list[dict[str, Any]] = field(default_factory=list)
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)

    def k8s_context(self) -> str:
        return self.context

    def fail(self, message: str) -> None:
        raise RuntimeError(message)

    def docker_build(
        self, ref: str, context: str, build_args: dict[str, str] | None = None, only: list[str] | None = None
    ) -> None:
        for path in [context, *(only or [])]:
            assert (REPOSITORY / path).exists(), f"docker_build names {path}, which does not exist"
        self.builds[ref] = {"build_args": build_args or {}, "only": only or []}

    def helm(self, path: str, name: str, values: list[str], set: list[str]) -> str:  # Tilt's own name
        assert path == "platform/helm/task-api"
        assert name == "task-api"
        arguments = [a for v in values for a in ("--values", str(REPOSITORY / v))] + [
            a for s in set for a in ("--set", s)
        ]
        return yaml.safe_dump_all(render(*arguments))

    def k8s_yaml(self, text: str) -> None:
        self.applied += yaml.safe_load_all(text)

    def port_forward(self, local_port: int, container_port: int, name: str, link_path: str) -> str:
        return f"{local_port}:{container_port} {name} {link_path}"

    def k8s_resource(
        self,
        workload: str,
        port_forwards: list[str] | None = None,
        resource_deps: list[str] | None = None,
        labels: list[str] | None = None,
    ) -> None:
        self.resources[workload] = {
            "port_forwards": port_forwards or [],
            "resource_deps": resource_deps or [],
            "labels": labels or [],
        }


def evaluate(context: str) -> Tilt:
    tilt = Tilt(context)
    module = sl.Module()
    for name in ("k8s_context", "fail", "docker_build", "helm", "k8s_yaml", "port_forward", "k8s_resource"):
        module.add_callable(name, getattr(tilt, name))
    dialect = sl.Dialect.extended()
    dialect.enable_top_level_stmt = True
    program = sl.parse("Tiltfile", (REPOSITORY / "Tiltfile").read_text(), dialect)
    sl.eval(module, program, sl.Globals.standard())
    return tilt


def test_any_other_cluster_is_refused_with_the_line_that_helps() -> None:
    with pytest.raises(
        Exception, match=r"arn:aws:production.*make up.*export KUBECONFIG=\$PWD/\.kube/config && tilt up"
    ):
        evaluate("arn:aws:production")


def test_what_is_built_is_what_the_release_runs() -> None:
    tilt = evaluate("kind-task-platform")
    images = [
        container["image"]
        for manifest in tilt.applied
        if "template" in manifest.get("spec", {})
        for container in manifest["spec"]["template"]["spec"]["containers"]
    ]
    for built in tilt.builds:
        assert any(fnmatch.fnmatch(image, f"{built}:*") for image in images), f"{built} is built but not deployed"


def test_the_build_sees_what_the_dockerfile_copies() -> None:
    copied = re.findall(r"^COPY services/\$\{SERVICE\}/(\S+)", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    (build,) = evaluate("kind-task-platform").builds.values()
    assert {f"services/task-api/{path}" for path in copied} == set(build["only"])


def test_every_resource_is_a_workload_of_the_chart() -> None:
    tilt = evaluate("kind-task-platform")
    workloads = {m["metadata"]["name"] for m in tilt.applied if m["kind"] in {"Deployment", "StatefulSet"}}
    assert tilt.resources.keys() == workloads
    for resource in tilt.resources.values():
        assert set(resource["resource_deps"]) <= workloads
