"""Whether what is applied and what the server makes of it differ for ever, as `kubectl diff` and GitOps tools see."""

from __future__ import annotations

import json
from typing import Any

import yaml
from e2e.namespace import Namespace

KINDS = "deployment,statefulset,service,ingress,hpa,pdb,networkpolicy,serviceaccount,cronjob,pvc"


SERVERS_OWN = {"nodePort"}
"""What no manifest says: the server gives a Service of type LoadBalancer its ports, which tools compare by number."""


def drift(applied: Any, there: Any, path: str = "", *, in_list: bool = False) -> list[str]:
    """Fields that the server added to an element of a list, and those that it dropped or changed, wherever they are.

    What it fills in beside a list's elements is nobody's difference: a tool compares the fields that it applied. A list
    it compares as a whole (Argo CD all of a custom resource, the server those that it takes for atomic).
    """
    if isinstance(applied, dict) and isinstance(there, dict):
        found = [f"{path}.{key} was dropped" for key in applied.keys() - there.keys()]
        added = there.keys() - applied.keys() - SERVERS_OWN
        found += [f"{path}.{key} was added" for key in added if in_list]
        for key in applied.keys() & there.keys():
            found += drift(applied[key], there[key], f"{path}.{key}", in_list=in_list)
        return found
    if isinstance(applied, list) and isinstance(there, list) and len(applied) == len(there):
        pairs = enumerate(zip(applied, there, strict=True))
        return [found for n, pair in pairs for found in drift(*pair, f"{path}[{n}]", in_list=True)]
    return [] if applied == there else [f"{path} was changed"]


def drift_of_all(applied: str, there: list[Any]) -> list[str]:
    """The same of each object of a YAML stream, in what `kubectl get -o json` says."""
    by_name = {(found["kind"], found["metadata"]["name"]): found for found in there}
    return [
        f"{manifest['kind']} {manifest['metadata']['name']}{found}"
        for manifest in yaml.safe_load_all(applied)
        if manifest
        for found in drift(manifest, by_name[manifest["kind"], manifest["metadata"]["name"]])
    ]


def there(namespace: Namespace) -> list[Any]:
    found: list[Any] = json.loads(namespace.run(f"kubectl get {KINDS},secret --show-managed-fields -o json"))["items"]
    return found


def specs(namespace: Namespace) -> dict[str, Any]:
    """What each object is to be."""
    return {f"{found['kind']}/{found['metadata']['name']}": found.get("spec") for found in there(namespace)}


def written(namespace: Namespace) -> dict[str, Any]:
    """Each object's generation, and when who wrote it, but for its status and the number of its replicas."""
    return {
        f"{found['kind']}/{found['metadata']['name']}": (
            found["metadata"].get("generation"),
            sorted(
                (entry["manager"], entry["operation"], entry.get("time", ""))
                for entry in found["metadata"].get("managedFields", [])
                if "subresource" not in entry and entry["manager"] != "kube-controller-manager"
            ),
        )
        for found in there(namespace)
        if found.get("type") != "helm.sh/release.v1"
    }
