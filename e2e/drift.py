"""Permanent differences between applied manifests and live objects, as seen by `kubectl diff` and GitOps tools."""

from __future__ import annotations

import json
from typing import Any

import yaml
from e2e.namespace import Namespace

KINDS = "deployment,statefulset,service,ingress,hpa,pdb,networkpolicy,serviceaccount,cronjob,pvc"


SET_BY_SERVER = {"nodePort"}
"""Fields that no manifest sets: the server assigns the ports of a LoadBalancer Service, which tools compare by
number."""


def drift(applied: Any, live: Any, path: str = "", *, in_list: bool = False) -> list[str]:
    """Fields added by the server to list elements, and fields that it dropped or changed, at any depth.

    Defaults outside of lists cause no difference: tools compare only the applied fields. They compare lists as a whole
    (Argo CD those of custom resources, the server those that it treats as atomic).
    """
    if isinstance(applied, dict) and isinstance(live, dict):
        differences = [f"{path}.{key} was dropped" for key in applied.keys() - live.keys()]
        added = live.keys() - applied.keys() - SET_BY_SERVER
        differences += [f"{path}.{key} was added" for key in added if in_list]
        for key in applied.keys() & live.keys():
            differences += drift(applied[key], live[key], f"{path}.{key}", in_list=in_list)
        return differences
    if isinstance(applied, list) and isinstance(live, list) and len(applied) == len(live):
        pairs = enumerate(zip(applied, live, strict=True))
        return [found for n, pair in pairs for found in drift(*pair, f"{path}[{n}]", in_list=True)]
    return [] if applied == live else [f"{path} was changed"]


def drift_of_all(applied: str, live: list[Any]) -> list[str]:
    """The same for each object of a YAML stream, compared with the output of `kubectl get -o json`."""
    by_name = {(found["kind"], found["metadata"]["name"]): found for found in live}
    return [
        f"{manifest['kind']} {manifest['metadata']['name']}{found}"
        for manifest in yaml.safe_load_all(applied)
        if manifest
        for found in drift(manifest, by_name[manifest["kind"], manifest["metadata"]["name"]])
    ]


def live_objects(namespace: Namespace) -> list[Any]:
    found: list[Any] = json.loads(namespace.run(f"kubectl get {KINDS},secret --show-managed-fields -o json"))["items"]
    return found


def specs(namespace: Namespace) -> dict[str, Any]:
    """Each object's spec."""
    return {f"{found['kind']}/{found['metadata']['name']}": found.get("spec") for found in live_objects(namespace)}


def write_history(namespace: Namespace) -> dict[str, Any]:
    """Each object's generation and field managers with times, except for its status and number of replicas."""
    return {
        f"{found['kind']}/{found['metadata']['name']}": (
            found["metadata"].get("generation"),
            sorted(
                (entry["manager"], entry["operation"], entry.get("time", ""))
                for entry in found["metadata"].get("managedFields", [])
                if "subresource" not in entry and entry["manager"] != "kube-controller-manager"
            ),
        )
        for found in live_objects(namespace)
        if found.get("type") != "helm.sh/release.v1"
    }
