"""The HPA scales up under load and down after it."""

from __future__ import annotations

import signal
from pathlib import Path

from e2e.eventually import eventually
from e2e.namespace import Namespace
from e2e.task_api.faults.conftest import CHART, REPLICAS, ClientsDuring, wait_until_settled

PEAK_REPLICAS = 6
LOAD_SECONDS = 90
"""Upper limit. The HPA evaluates every 15 s, with metrics of the same age, and adds pods in two steps."""
CONNECTIONS = 4


def replicas(namespace: Namespace) -> int:
    return int(namespace.run("kubectl get deployment task-api -o jsonpath='{.spec.replicas}'"))


def test_scaling_under_load_fails_no_request(
    victim: Namespace, clients_during: ClientsDuring, wrk: str, https_port: int, tmp_path: Path
) -> None:
    eventually(
        lambda: "unknown" not in victim.run("kubectl get hpa task-api --no-headers"),
        "the HPA has CPU metrics: see `kubectl top pods` and the log of metrics-server",
    )
    grow = f"helm upgrade task-api {CHART} {victim.values} --set autoscaling.maxReplicas={PEAK_REPLICAS} --wait"
    with clients_during(f"autoscaler: {REPLICAS} to {PEAK_REPLICAS} pods and back", graceful=True) as clients:
        victim.run(grow)
        clients.mark_fault("load")
        load = victim.start(
            f"{wrk} --threads 1 --connections {CONNECTIONS} --duration {LOAD_SECONDS}s --timeout 10s"
            f" --header 'Host: {victim.host}' 'https://127.0.0.1:{https_port}/v1/tasks?page_size=1'",
            tmp_path / "wrk",
        )
        try:
            eventually(
                lambda: replicas(victim) == PEAK_REPLICAS, f"there are {PEAK_REPLICAS} pods: see `kubectl describe hpa`"
            )
            victim.run(
                f"kubectl wait deployment/task-api --for=jsonpath='{{.status.readyReplicas}}'={PEAK_REPLICAS} "
                "--timeout=90s"
            )
        finally:
            load.send_signal(signal.SIGINT)  # wrk prints its results
            load.wait(timeout=20)
        output = (tmp_path / "wrk").read_text()
        assert "Requests/sec" in output, output
        assert "Non-2xx" not in output, output
        assert "Socket errors" not in output, output
        clients.mark_fault("end of load")
        victim.run(f"helm upgrade task-api {CHART} {victim.values} --wait")
        eventually(lambda: replicas(victim) == REPLICAS, f"scaled down to {REPLICAS} pods", seconds=180)
        wait_until_settled(victim)
