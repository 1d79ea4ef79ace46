"""Pods come under load and go after it."""

from __future__ import annotations

import signal
from pathlib import Path

from e2e.eventually import eventually
from e2e.namespace import Namespace
from e2e.task_api.faults.conftest import CHART, REPLICAS, Live, settle

MOST = 6
LOAD_SECONDS = 90
"""At most. The autoscaler looks every 15 s, at metrics that are as old, and adds pods in two steps."""
CONNECTIONS = 4


def replicas(namespace: Namespace) -> int:
    return int(namespace.run("kubectl get deployment task-api -o jsonpath='{.spec.replicas}'"))


def test_pods_that_come_and_go_by_load_fail_no_request(
    victim: Namespace, live: Live, wrk: str, https_port: int, tmp_path: Path
) -> None:
    eventually(
        lambda: "unknown" not in victim.run("kubectl get hpa task-api --no-headers"),
        "the autoscaler has CPU figures: see `kubectl top pods` and the log of metrics-server",
    )
    grow = f"helm upgrade task-api {CHART} {victim.values} --set autoscaling.maxReplicas={MOST} --wait"
    with live(f"autoscaler: {REPLICAS} to {MOST} pods and back", graceful=True) as clients:
        victim.run(grow)
        clients.strike("load")
        load = victim.start(
            f"{wrk} --threads 1 --connections {CONNECTIONS} --duration {LOAD_SECONDS}s --timeout 10s"
            f" --header 'Host: {victim.host}' 'https://127.0.0.1:{https_port}/v1/tasks?page_size=1'",
            tmp_path / "wrk",
        )
        try:
            eventually(lambda: replicas(victim) == MOST, f"there are {MOST} pods: see `kubectl describe hpa`")
            victim.run(
                f"kubectl wait deployment/task-api --for=jsonpath='{{.status.readyReplicas}}'={MOST} --timeout=90s"
            )
        finally:
            load.send_signal(signal.SIGINT)  # it says what it saw
            load.wait(timeout=20)
        saw = (tmp_path / "wrk").read_text()
        assert "Requests/sec" in saw, saw
        assert "Non-2xx" not in saw, saw
        assert "Socket errors" not in saw, saw
        clients.strike("calm")
        victim.run(f"helm upgrade task-api {CHART} {victim.values} --wait")
        eventually(lambda: replicas(victim) == REPLICAS, f"{REPLICAS} pods are wanted again", seconds=180)
        settle(victim)
