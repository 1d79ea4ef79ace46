"""State stored beside the release, in ConfigMaps that outlive its revisions and even the release:

held          commits that were rolled back, with the reason: they are not deployed again
unconfirmed   revisions whose pods have not been verified to serve the commit yet, with that commit. Helm calls a
              revision `deployed` once its pods are ready, whatever they serve. Revisions not created by
              this script are in neither.
"""

from __future__ import annotations

import json
from typing import Literal

from scripts.deploy.processes import check_output
from scripts.deploy.settings import Settings

Kind = Literal["held", "unconfirmed"]


def read_records(settings: Settings, kind: Kind) -> dict[str, str]:
    """The records, by tag or by revision; empty if there are none."""
    text = check_output(
        "kubectl", "get", "configmap", f"{settings.release}-{kind}", "--ignore-not-found", "--output", "json"
    )
    found: dict[str, str] = (json.loads(text).get("data") or {}) if text.strip() else {}
    return found


def update_records(settings: Settings, kind: Kind, changes: dict[str, str | None]) -> None:
    """Sets the keys with a value and removes those without."""
    name = f"{settings.release}-{kind}"
    if not check_output("kubectl", "get", "configmap", name, "--ignore-not-found", "--output", "name").strip():
        check_output("kubectl", "create", "configmap", name)
    check_output("kubectl", "patch", "configmap", name, "--type=merge", "--patch", json.dumps({"data": changes}))
