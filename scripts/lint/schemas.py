"""Lays out the JSON schemas that kubeconform reads, without a network for the built-in kinds."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from scripts.lint.check import Failed

Schema = dict[str, Any]


class Loader(yaml.CSafeLoader):  # ten times as fast as the one in Python
    """Reads `=` as a string, which YAML 1.1 has a tag of its own for: it is an operator of Alertmanager's matchers."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda _loader, node: str(node.value))


def strict(schema: Schema) -> Schema:
    """The schema, refusing fields that it does not name: the API server drops such a field, so it is a typing error.

    anyOf, oneOf and not are left alone: in a structural schema they add conditions on fields named beside them.
    """
    made = dict(schema)
    if "properties" in schema:
        made["properties"] = {name: strict(below) for name, below in schema["properties"].items()}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            made[key] = strict(schema[key])
    if schema.get("nullable") and isinstance(schema.get("type"), str):
        made["type"] = [schema["type"], "null"]
    return made


def write_custom(folder: Path, manifest: str) -> int:
    written = 0
    for document in yaml.load_all(read(manifest), Loader=Loader):
        if not isinstance(document, dict) or document.get("kind") != "CustomResourceDefinition":
            continue
        spec = document["spec"]
        for version in spec["versions"]:
            file = folder / spec["group"] / f"{spec['names']['kind'].lower()}_{version['name']}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(strict(version["schema"]["openAPIV3Schema"])))
            written += 1
    return written


def read(manifest: str) -> str:
    if manifest.startswith("https://"):
        with urllib.request.urlopen(f"https://{manifest.removeprefix('https://')}", timeout=60) as answer:
            text: str = answer.read().decode()
            return text
    return Path(manifest).read_text()


def write_built_in(folder: Path, version: str) -> None:
    package = Path(kubernetes_validate.__file__).parent / f"kubernetes-json-schema/v{version}.0-local-strict"
    target = folder / "built-in"
    target.mkdir(parents=True, exist_ok=True)
    for file in package.glob("*.json"):
        # The files refer to each other by their addresses on kubernetes.io; here they lie side by side.
        schema = json.loads(file.read_text().replace('"/api/_definitions.json', '"_definitions.json'))
        schema.pop("$id", None)
        (target / file.name).write_text(json.dumps(schema))


def lay_out(folder: Path, version: str, manifests: list[str]) -> None:
    """FOLDER/built-in/ has the kinds of that Kubernetes, from the package kubernetes-validate. FOLDER/GROUP/ has custom
    resources, from CustomResourceDefinitions: a manifest is a release's file or its URL. Raises Failed."""
    write_built_in(folder, version)
    for manifest in manifests:
        try:
            written = write_custom(folder, manifest)
        except (OSError, yaml.YAMLError) as error:
            raise Failed(
                f"{manifest} cannot be read ({error}). Without a network, download it and name the file instead."
            ) from error
        if not written:
            raise Failed(
                f"{manifest} holds no CustomResourceDefinition. It should be the release's file, see versions.env."
            )
