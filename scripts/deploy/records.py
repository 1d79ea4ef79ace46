"""What is kept beside the release, in ConfigMaps that outlive its revisions, and even the release:

held          commits that a rollback left, with the reason: they are not deployed again
unconfirmed   revisions of which no pod has said the commit yet, with that commit. Helm calls a revision `deployed` once
              its pods are ready, whatever they are. One that no deploy of this script made is in neither.
"""

from __future__ import annotations

import json
from typing import Literal

from scripts.deploy.processes import must
from scripts.deploy.settings import Settings

Kind = Literal["held", "unconfirmed"]


def kept(settings: Settings, kind: Kind) -> dict[str, str]:
    """What is recorded, by tag or by revision; empty where nothing is."""
    text = must("kubectl", "get", "configmap", f"{settings.release}-{kind}", "--ignore-not-found", "--output", "json")
    found: dict[str, str] = (json.loads(text).get("data") or {}) if text.strip() else {}
    return found


def change(settings: Settings, kind: Kind, changes: dict[str, str | None]) -> None:
    """Sets what has a value, and removes what has none."""
    name = f"{settings.release}-{kind}"
    if not must("kubectl", "get", "configmap", name, "--ignore-not-found", "--output", "name").strip():
        must("kubectl", "create", "configmap", name)
    must("kubectl", "patch", "configmap", name, "--type=merge", "--patch", json.dumps({"data": changes}))
