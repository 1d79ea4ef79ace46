"""Queries about the release's pods."""

from __future__ import annotations

import json
import os
from typing import Any

from scripts.deploy.processes import Failed, check_output, run
from scripts.deploy.settings import Settings


def pods(settings: Settings) -> list[Any]:
    """The API's pods that are not terminating. Evicted and completed pods stay listed until they are deleted."""
    selector = f"app.kubernetes.io/instance={settings.release},app.kubernetes.io/component=api"
    found = json.loads(check_output("kubectl", "get", "pods", "--selector", selector, "--output", "json"))["items"]
    return [
        pod
        for pod in found
        if "deletionTimestamp" not in pod["metadata"] and pod["status"]["phase"] not in ("Failed", "Succeeded")
    ]


def restarts(settings: Settings) -> dict[str, int]:
    """Container restarts per pod."""
    return {
        pod["metadata"]["name"]: sum(status["restartCount"] for status in pod["status"].get("containerStatuses") or [])
        for pod in pods(settings)
    }


def diagnose(settings: Settings) -> None:
    """Prints the state of the failed pods. A rollback removes them, so this runs before it."""
    selector = f"app.kubernetes.io/instance={settings.release}"
    logs = ("kubectl", "logs", "--selector", selector, "--all-containers", "--prefix", "--tail=40")
    queries = {
        "Pods": ("kubectl", "get", "pods", "--selector", selector, "--output", "wide"),
        "Pod descriptions": ("kubectl", "describe", "pods", "--selector", selector),
        "Events": ("kubectl", "get", "events", "--sort-by=.lastTimestamp"),
        "Logs": logs,
        "Logs before the last restart": (*logs, "--previous"),
    }
    on_github = os.environ.get("GITHUB_ACTIONS") == "true"
    for title, command in queries.items():
        print(f"::group::{title}" if on_github else f"\n--- {title}", flush=True)
        # A query that fails (logs of a container that never ran) prints its error; the others still run.
        try:
            run(*command, show=True, timeout=15)  # logs of a dead node never arrive, and the rollback is waiting
        except Failed as failure:
            print(failure, flush=True)
        if on_github:
            print("::endgroup::", flush=True)
