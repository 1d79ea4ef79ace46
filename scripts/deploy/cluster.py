"""What the cluster says of the release's pods."""

from __future__ import annotations

import json
import os
from typing import Any

from scripts.deploy.processes import Failed, must, run
from scripts.deploy.settings import Settings


def pods(settings: Settings) -> list[Any]:
    """The API's pods that stay. An evicted one, or one that ended, is listed until somebody removes it."""
    selector = f"app.kubernetes.io/instance={settings.release},app.kubernetes.io/component=api"
    found = json.loads(must("kubectl", "get", "pods", "--selector", selector, "--output", "json"))["items"]
    return [
        pod
        for pod in found
        if "deletionTimestamp" not in pod["metadata"] and pod["status"]["phase"] not in ("Failed", "Succeeded")
    ]


def restarts(settings: Settings) -> dict[str, int]:
    """How often a container of each pod that stays was started again."""
    return {
        pod["metadata"]["name"]: sum(status["restartCount"] for status in pod["status"].get("containerStatuses") or [])
        for pod in pods(settings)
    }


def diagnose(settings: Settings) -> None:
    """What the cluster knows of the failure. A rollback removes it, so it is asked before."""
    selector = f"app.kubernetes.io/instance={settings.release}"
    logs = ("kubectl", "logs", "--selector", selector, "--all-containers", "--prefix", "--tail=40")
    questions = {
        "Pods": ("kubectl", "get", "pods", "--selector", selector, "--output", "wide"),
        "Description of the pods": ("kubectl", "describe", "pods", "--selector", selector),
        "Events": ("kubectl", "get", "events", "--sort-by=.lastTimestamp"),
        "Logs": logs,
        "Logs before the last restart": (*logs, "--previous"),
    }
    on_github = os.environ.get("GITHUB_ACTIONS") == "true"
    for title, command in questions.items():
        print(f"::group::{title}" if on_github else f"\n--- {title}", flush=True)
        # One that has no answer (logs of a container that never ran) says so itself and hides none of the others.
        try:
            run(*command, show=True, limit=15)  # a node that is dead answers no question for logs, and a rollback waits
        except Failed as failure:
            print(failure, flush=True)
        if on_github:
            print("::endgroup::", flush=True)
