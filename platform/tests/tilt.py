"""A model of Tilt 0.37: evaluates a Tiltfile without a cluster.

Functions have the signatures of Tilt (internal/tiltfile of v0.37.6), limited to those that the Tiltfile here needs: an
unknown function or argument is an error, as is a path that does not exist. `helm` is the real one. After evaluation,
unused images, resources without a workload and missing objects are errors, as in Tilt.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import starlark
import yaml

Manifest = dict[str, Any]

WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod"}
TRIGGER_MODES = {"TRIGGER_MODE_AUTO": "auto", "TRIGGER_MODE_MANUAL": "manual"}


class TiltfileError(Exception):
    """An error with which Tilt would stop."""


@dataclass
class Build:
    target: str
    build_args: dict[str, str]
    only: list[str]
    syncs: list[tuple[str, str]]
    fall_back_on: list[str]


@dataclass
class Resource:
    """A workload with the objects that Tilt applies with it."""

    objects: list[str]
    port_forwards: list[dict[str, Any]]
    resource_deps: list[str]
    links: list[dict[str, str]]
    labels: list[str]


@dataclass
class LocalResource:
    command: list[str]
    deps: list[str]
    auto_init: bool
    trigger_mode: str
    labels: list[str]


@dataclass
class Tilt:
    folder: Path
    """The Tiltfile's folder."""
    context: str
    settings: dict[str, Any] = field(default_factory=dict)
    """tilt_config.json."""
    environment: dict[str, str] = field(default_factory=dict)

    builds: dict[str, Build] = field(default_factory=dict)
    applied: list[Manifest] = field(default_factory=list)
    by_command: dict[str, list[Manifest]] = field(default_factory=dict)
    """The objects applied by a command, by resource: unmodified, without Tilt's labels."""
    resources: dict[str, Resource] = field(default_factory=dict)
    local_resources: dict[str, LocalResource] = field(default_factory=dict)
    version_constraint: str = ""
    kube_versions: set[str] = field(default_factory=set)
    """The Kubernetes versions for which charts were rendered."""
    _defined: dict[str, type] = field(default_factory=dict)

    def read(self) -> Tilt:
        """Evaluates the Tiltfile; raises the errors with which Tilt would stop."""
        module = starlark.Module()
        functions: list[Callable[..., Any]] = [
            self.k8s_context, self.fail, self.version_settings, self.ci_settings, self.listdir, self.read_file,
            self.helm,
            self.decode_yaml_stream, self.encode_yaml_stream, self.docker_build, self.sync, self.fall_back_on,
            self.k8s_yaml, self.k8s_custom_deploy, self.port_forward, self.link, self.k8s_resource, self.local_resource,
        ]  # fmt: skip
        namespaces: dict[str, list[Callable[..., Any]]] = {
            "config": [self.define_string, self.define_string_list, self.parse],
            "os": [self.getenv],
        }
        for function in functions:
            module.add_callable(function.__name__, function)
        prelude = [f"{name} = {json.dumps(value)}" for name, value in TRIGGER_MODES.items()]
        for namespace, members in namespaces.items():
            for function in members:
                module.add_callable(f"_{function.__name__}", function)
            fields = ", ".join(f"{function.__name__}=_{function.__name__}" for function in members)
            prelude.append(f"{namespace} = struct({fields})")
        dialect = starlark.Dialect.extended()
        dialect.enable_top_level_stmt = True
        known = starlark.Globals.extended_by([starlark.LibraryExtension.StructType])
        for name, text in [("prelude", "\n".join(prelude)), ("Tiltfile", (self.folder / "Tiltfile").read_text())]:
            starlark.eval(module, starlark.parse(name, text, dialect), known)
        self._assemble()
        return self

    # --- functions of the Tiltfile API ------------------------------------------------

    def k8s_context(self) -> str:
        return self.context

    def fail(self, msg: str) -> None:
        raise TiltfileError(msg)

    def version_settings(self, check_updates: bool = True, constraint: str = "") -> None:
        self.version_constraint = constraint

    def ci_settings(self, k8s_grace_period: str = "", timeout: str = "30m", readiness_timeout: str = "5m") -> None:
        for duration in filter(None, (k8s_grace_period, timeout, readiness_timeout)):
            if not duration[:-1].isdigit() or duration[-1] not in "smh":
                raise TiltfileError(f"{duration} is not a duration")

    def define_string(self, name: str, args: bool = False, usage: str = "") -> None:
        self._defined[name] = str

    def define_string_list(self, name: str, args: bool = False, usage: str = "") -> None:
        self._defined[name] = list

    def parse(self) -> dict[str, Any]:
        for name, value in self.settings.items():
            if not isinstance(value, self._defined.get(name, ())):
                raise TiltfileError(f"tilt_config.json specifies {name}, which is unknown or of another type")
        return self.settings

    def getenv(self, key: str, default: str = "") -> str:
        return self.environment.get(key, default)

    def listdir(self, directory: str, recursive: bool = False) -> list[str]:
        """Only files, as absolute paths; Tilt does not list directories."""
        paths = self._path(directory).rglob("*") if recursive else self._path(directory).iterdir()
        return sorted(str(path) for path in paths if path.is_file())

    def read_file(self, file_path: str, default: str | None = None) -> str:
        """Tilt's returns a blob, which has no string methods until str() converts it."""
        return self._path(file_path).read_text()

    def helm(
        self,
        path: str,
        /,
        name: str = "chart",
        namespace: str = "",
        values: str | list[str] = "",
        set: str | list[str] = "",  # Tilt's own name
        kube_version: str = "",
        skip_crds: bool = False,
    ) -> str:
        command = ["helm", "template", name, str(self._path(path))]
        self.kube_versions.add(kube_version)
        command += ["--namespace", namespace] if namespace else []
        command += ["--kube-version", kube_version] if kube_version else []
        command += [] if skip_crds else ["--include-crds"]
        for file in _listed(values):
            command += ["--values", str(self._path(file))]
        for pair in _listed(set):
            command += ["--set", pair]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise TiltfileError(done.stderr)
        documents = done.stdout.split("---\n")
        return "---\n".join(text for text in documents if not _is_helm_test(text))

    def decode_yaml_stream(self, text: str, /) -> list[Manifest]:
        return [document for document in yaml.safe_load_all(text) if document is not None]

    def encode_yaml_stream(self, objects: list[Manifest], /) -> str:
        return yaml.safe_dump_all(objects)

    def sync(self, local_path: str, remote_path: str) -> dict[str, str]:
        if not remote_path.startswith("/"):
            raise TiltfileError(f"sync destination {remote_path!r} is not absolute")
        self._path(local_path)
        return {"step": "sync", "local": local_path, "remote": remote_path}

    def fall_back_on(self, files: str | list[str]) -> dict[str, Any]:
        for file in _listed(files):
            self._path(file)
        return {"step": "fall_back_on", "files": _listed(files)}

    def docker_build(
        self,
        ref: str,
        context: str,
        build_args: dict[str, str] | None = None,
        dockerfile: str = "Dockerfile",
        live_update: list[dict[str, Any]] | None = None,
        ignore: str | list[str] = "",
        only: str | list[str] = "",
        target: str = "",
    ) -> None:
        steps = live_update or []
        if [step["step"] for step in steps] != sorted(step["step"] for step in steps):
            raise TiltfileError("fall_back_on steps must appear at the start of the list")
        if ref in self.builds:
            raise TiltfileError(f"Image for ref {ref!r} has already been defined")
        included = [self._path(context) / path for path in _listed(only) or ["."]]
        for path in included:
            if "*" in str(path):
                raise TiltfileError(f"'only' does not support '*' file globs: {path}")
            self._path(str(path))
        if ignore:
            raise TiltfileError(
                "the model does not support `ignore`: use .dockerignore, which applies to every builder"
            )
        for step in steps:
            for file in [step["local"]] if step["step"] == "sync" else step["files"]:
                if not any((self.folder / file).is_relative_to(path) for path in included):
                    raise TiltfileError(f"{step['step']} step source {file!r} is not a child of any watched filepaths")
        stages = [line.split()[-1] for line in self._path(dockerfile).read_text().splitlines() if " AS " in line]
        if target and target not in stages:
            raise TiltfileError(f"{dockerfile} has no stage {target}")
        self.builds[ref] = Build(
            target=target,
            build_args=build_args or {},
            only=_listed(only),
            syncs=[(step["local"], step["remote"]) for step in steps if step["step"] == "sync"],
            fall_back_on=[file for step in steps if step["step"] == "fall_back_on" for file in step["files"]],
        )

    def k8s_yaml(self, text: str, /, allow_duplicates: bool = False) -> None:
        for manifest in yaml.safe_load_all(text):
            if _fragment(manifest) in map(_fragment, self.applied) and not allow_duplicates:
                raise TiltfileError(f"Duplicate YAML: {_fragment(manifest)}")
            # Tilt overwrites this label and uses it to find its objects.
            manifest["metadata"].setdefault("labels", {})["app.kubernetes.io/managed-by"] = "tilt"
            self.applied.append(manifest)

    def k8s_custom_deploy(
        self,
        name: str,
        apply_cmd: str,
        delete_cmd: str,
        deps: list[str],
        apply_env: dict[str, str] | None = None,
        delete_env: dict[str, str] | None = None,
    ) -> None:
        for command, environment in ((apply_cmd, apply_env), (delete_cmd, delete_env)):
            if not command.startswith(f'printf %s "$OBJECTS" | kubectl --context {self.context} ') or not environment:
                raise TiltfileError("the model supports only commands that pipe OBJECTS to kubectl")
        self.by_command[name] = list(yaml.safe_load_all((apply_env or {})["OBJECTS"]))
        self.applied += self.by_command[name]

    def port_forward(
        self, local_port: int, container_port: int = 0, name: str = "", link_path: str = "", host: str = ""
    ) -> dict[str, Any]:
        for port in (local_port, container_port):
            if isinstance(port, bool) or not isinstance(port, int):
                raise TiltfileError(f"a port must be a number, not {port!r}")
            if not 0 <= port < 65536 or not local_port:
                raise TiltfileError(f"port out of range: {port}")
        return {"local": local_port, "container": container_port, "name": name, "path": link_path, "host": host}

    def link(self, url: str, name: str = "") -> dict[str, str]:
        return {"url": url, "name": name}

    def k8s_resource(
        self,
        workload: str = "",
        new_name: str = "",
        port_forwards: list[dict[str, Any]] | None = None,
        resource_deps: list[str] | None = None,
        objects: list[str] | None = None,
        links: list[dict[str, str]] | None = None,
        labels: str | list[str] = "",
    ) -> None:
        if new_name:
            raise TiltfileError("the model does not support `new_name`")
        if workload in self.resources:
            raise TiltfileError(f"the model does not support a second k8s_resource for {workload!r}")
        for forward in port_forwards or []:
            if not isinstance(forward, dict) or "local" not in forward:
                raise TiltfileError(f"the model supports only port_forward(), not {forward!r}")
        for address in links or []:
            if not isinstance(address, dict) or "url" not in address:
                raise TiltfileError(f"the model supports only link(), not {address!r}")
        self.resources[workload] = Resource(
            objects or [], port_forwards or [], resource_deps or [], links or [], _labels(labels)
        )

    def local_resource(
        self,
        name: str,
        cmd: str | list[str],
        deps: str | list[str] = "",
        trigger_mode: str = "auto",
        resource_deps: list[str] | None = None,
        auto_init: bool = True,
        allow_parallel: bool = False,
        labels: str | list[str] = "",
        env: dict[str, str] | None = None,
    ) -> None:
        if name in self.local_resources:
            raise TiltfileError(f"a resource named {name!r} already exists")
        for path in _listed(deps):
            self._path(path)
        if resource_deps:
            raise TiltfileError("the model does not support `resource_deps` of local resources")
        self.local_resources[name] = LocalResource(
            _listed(cmd), _listed(deps), auto_init, trigger_mode, _labels(labels)
        )

    # --- effects in Tilt --------------------------------------------------------------

    def workloads(self) -> dict[str, Manifest]:
        return {m["metadata"]["name"]: m for m in self.applied if m["kind"] in WORKLOADS}

    def images(self) -> set[str]:
        """The images of all containers, without tags. Tilt replaces those that match a build."""
        pods = [m["spec"]["template"]["spec"] for m in self.workloads().values()]
        return {c["image"].rpartition(":")[0] for pod in pods for c in pod["containers"]}

    def uncategorized(self) -> set[str]:
        """Objects that belong to no resource: neither a workload or its Service, nor named by a resource."""
        assigned = {_fragment(m) for m in self.applied if m["kind"] in WORKLOADS or self._is_service_of_a_workload(m)}
        named = {name.lower() for resource in self.resources.values() for name in resource.objects}
        named |= {_fragment(manifest) for name in self.resources for manifest in self.by_command.get(name, [])}
        return {_fragment(manifest) for manifest in self.applied} - assigned - named

    def _assemble(self) -> None:
        for ref in self.builds:
            if ref not in self.images():
                raise TiltfileError(f"Image not used in any Kubernetes config: {ref}")
        fragments = [_fragment(manifest) for manifest in self.applied]
        assigned = [_fragment(m) for m in self.applied if m["kind"] in WORKLOADS or self._is_service_of_a_workload(m)]
        for name, resource in self.resources.items():
            if name not in self.workloads():
                raise TiltfileError(f"k8s_resource specified unknown resource {name!r}")
            for requested in (fragment.lower() for fragment in resource.objects):
                if fragments.count(requested) != 1:
                    raise TiltfileError(
                        f"{fragments.count(requested)} objects are identified by the fragment {requested!r}"
                    )
                if requested in assigned:
                    raise TiltfileError(
                        f"No object identified by the fragment {requested!r} could be found in remaining YAML"
                    )
                assigned.append(requested)

    def _is_service_of_a_workload(self, manifest: Manifest) -> bool:
        if manifest["kind"] != "Service":
            return False
        selector = manifest["spec"]["selector"].items()
        return any(selector <= w["spec"]["template"]["metadata"]["labels"].items() for w in self.workloads().values())

    def _path(self, path: str) -> Path:
        absolute = self.folder / path
        if not absolute.exists():
            raise TiltfileError(f"{path} does not exist")
        return absolute


def _listed(one_or_more: str | list[str]) -> list[str]:
    if isinstance(one_or_more, str):
        return [one_or_more] if one_or_more else []
    return one_or_more


def _labels(labels: str | list[str]) -> list[str]:
    for label in _listed(labels):
        if len(label) > 63 or not label.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise TiltfileError(f"Invalid label {label!r}")
    return _listed(labels)


def _fragment(manifest: Manifest) -> str:
    return f"{manifest['metadata']['name']}:{manifest['kind']}".lower()


def _is_helm_test(text: str) -> bool:
    return any(line.startswith("# Source: ") and "/tests/" in line for line in text.splitlines())
