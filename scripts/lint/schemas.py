"""Writes the JSON schemas for kubeconform, offline for the built-in kinds."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from scripts.lint.check import Failed

Schema = dict[str, Any]


class Loader(yaml.CSafeLoader):  # ten times as fast as the pure Python one
    """Reads `=` as a string, for which YAML 1.1 has a separate tag: it is an operator in Alertmanager's matchers."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda _loader, node: str(node.value))


def strict(schema: Schema) -> Schema:
    """The schema, with unknown fields rejected: the API server drops such a field, so it is a typo.

    anyOf, oneOf and not are unchanged: in a structural schema they add conditions to fields declared beside them.
    """
    result = dict(schema)
    if "properties" in schema:
        result["properties"] = {name: strict(child) for name, child in schema["properties"].items()}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            result["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            result[key] = strict(schema[key])
    if schema.get("nullable") and isinstance(schema.get("type"), str):
        result["type"] = [schema["type"], "null"]
    return result


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
        with urllib.request.urlopen(f"https://{manifest.removeprefix('https://')}", timeout=60) as response:
            text: str = response.read().decode()
            return text
    return Path(manifest).read_text()


def write_built_in(folder: Path, version: str) -> None:
    package = Path(kubernetes_validate.__file__).parent / f"kubernetes-json-schema/v{version}.0-local-strict"
    target = folder / "built-in" / version
    target.mkdir(parents=True, exist_ok=True)
    for file in package.glob("*.json"):
        # The files reference each other by their URLs on kubernetes.io; here they are in the same folder.
        schema = json.loads(file.read_text().replace('"/api/_definitions.json', '"_definitions.json'))
        schema.pop("$id", None)
        (target / file.name).write_text(json.dumps(schema))


def write_schemas(folder: Path, versions: list[str], manifests: list[str]) -> None:
    """FOLDER/built-in/VERSION/ gets the kinds of that Kubernetes version, from the package kubernetes-validate.
    FOLDER/GROUP/ gets custom resources, from CustomResourceDefinitions: a manifest is a release's file or its URL.
    Raises Failed."""
    for version in versions:
        write_built_in(folder, version)
    for manifest in manifests:
        try:
            written = write_custom(folder, manifest)
        except (OSError, yaml.YAMLError) as error:
            raise Failed(
                f"Cannot read {manifest} ({error}). Without a network, download it and use the file instead."
            ) from error
        if not written:
            raise Failed(
                f"{manifest} contains no CustomResourceDefinition. It must be the release's file, see versions.env."
            )
