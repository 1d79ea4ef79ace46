"""The autoscaler scales up under load and down after it, without an effect on clients."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable

import pytest
from e2e.conftest import SUMMARY
from e2e.eventually import eventually
from e2e.example import LOAD_PATH
from e2e.namespace import QUICK_DOWN, Namespace
from e2e.traffic import Traffic
from under_test import SERVICE

LOAD_SECONDS = 150
"""Maximum duration: the load ends once there are enough pods."""

CONNECTIONS = 4
"""Enough for about 300 requests a second on two cores, and few enough to leave new pods CPU time to start."""

MIN_PODS = 6
"""The minimum number of pods at the peak. On two cores the load makes the API use 900m to 1200m of CPU; at 70 % of a
request of 100m that needs all 10 pods. But those cores also run wrk, nginx, PostgreSQL and Kubernetes itself, and
starting pods use CPU, too: only more than 5, for which 350m suffice, is certain."""

READY = f"kubectl get deployment {SERVICE} -o jsonpath='{{.status.readyReplicas}}'"


@pytest.fixture
def fast_scale_down(release: Namespace) -> Namespace:
    """The release, with an autoscaler that scales down sooner."""
    release.run(f"helm upgrade {SERVICE} ./platform/helm/{SERVICE} --reuse-values {QUICK_DOWN} --wait --timeout 120s")
    release.wait_for_replicas(3)
    return release


def replicas(release: Namespace) -> int:
    return int(release.run(f"kubectl get deployment {SERVICE} -o jsonpath='{{.spec.replicas}}'"))


@pytest.mark.full  # two minutes; e2e/task_api/faults/test_autoscaling.py also scales up and down
def test_autoscaler_scales_up_under_load_and_down_without_a_failed_request(
    fast_scale_down: Namespace,
    wrk: str,
    https_port: int,
    record_property: Callable[[str, object], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    release, output = fast_scale_down, tmp_path_factory.mktemp("load") / "wrk"
    eventually(
        lambda: "unknown" not in release.run(f"kubectl get hpa {SERVICE} --no-headers"),
        "the HPA has CPU metrics: see `kubectl top pods` and the log of metrics-server",
        seconds=120,
    )
    peak = ready = 0
    with Traffic(release) as traffic:
        started = time.monotonic()
        load = release.start(
            f"{wrk} --threads 1 --connections {CONNECTIONS} --duration {LOAD_SECONDS}s --timeout 10s --latency"
            f" --header 'Host: {release.host}' 'https://127.0.0.1:{https_port}{LOAD_PATH}'",
            output,
        )
        try:
            while load.poll() is None and ready < MIN_PODS:
                peak = max(peak, replicas(release))
                ready = int(release.run(READY) or 0)
                time.sleep(1)
            up_after = time.monotonic() - started
        finally:
            load.send_signal(signal.SIGINT)  # wrk prints its results
            load.wait(timeout=15)
        results = output.read_text()
        assert load.returncode == 0, results
        assert ready >= MIN_PODS, (
            f"{ready} pods ready under load, at most {peak} desired: see `kubectl describe hpa {SERVICE}`\n{results}"
        )
        ended = time.monotonic()
        release.wait_for_replicas(3, seconds=180)
        down_after = time.monotonic() - ended
        eventually(
            lambda: len(release.run(f"kubectl get pods -l app={SERVICE} -o name").split()) == 3,
            "the surplus pods are gone",
            seconds=60,
        )
    # wrk prints these only if they occur. ("read 2" is caused by a reload of the ingress controller, which closes
    # kept-alive connections. Tests that add or remove an Ingress before this one must wait for it.)
    assert "Non-2xx" not in results, results
    assert "Socket errors" not in results, results
    assert traffic.failures == []
    assert traffic.responses > 100
    rate, latency = re.search(r"Requests/sec: +(\S+)", results), re.search(r"99% +(\S+)", results)
    requests = re.search(r"(\d+) requests in", results)
    assert rate
    assert latency
    assert requests
    record_property(
        SUMMARY,
        f"Autoscaler: from 3 to {MIN_PODS} or more ready pods within {up_after:.0f} s of load (peak: {peak}), back at 3"
        f" {down_after:.0f} s after it (10 s stabilization); {requests[1]} requests over {CONNECTIONS} connections"
        f" ({rate[1]}/s, p99 {latency[1]}) and {traffic.responses} other requests, none failed",
    )
