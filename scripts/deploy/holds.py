"""Commits that are not to be deployed again."""

from __future__ import annotations

import json

from scripts.deploy.processes import must
from scripts.deploy.settings import Settings


def held(settings: Settings) -> dict[str, str]:
    """Commits that a rollback left, with the reason. In a ConfigMap: it outlives revisions, and even the release."""
    text = must("kubectl", "get", "configmap", f"{settings.release}-held", "--ignore-not-found", "--output", "json")
    found: dict[str, str] = (json.loads(text).get("data") or {}) if text.strip() else {}
    return found


def change_held(settings: Settings, **changes: str | None) -> None:
    name = f"{settings.release}-held"
    if not must("kubectl", "get", "configmap", name, "--ignore-not-found", "--output", "name").strip():
        must("kubectl", "create", "configmap", name)
    must("kubectl", "patch", "configmap", name, "--type=merge", "--patch", json.dumps({"data": changes}))
