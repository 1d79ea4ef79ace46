"""Under load the autoscaler adds pods, and takes them away again; no client notices."""

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
"""At most: it ends when there are pods enough."""

CONNECTIONS = 4
"""Enough for some 300 requests a second on two cores, and few enough that new pods still find time to start there."""

LEAST = 6
"""Pods that the load has to lead to. On two cores it makes the API use 900m to 1200m of CPU; at 70 % of a request of
100m that is work for all 10 pods. But those cores also run wrk, nginx, PostgreSQL and Kubernetes itself, and new pods
take a share of their own while they start: what is certain is more than 5, for which 350m suffice."""

READY = f"kubectl get deployment {SERVICE} -o jsonpath='{{.status.readyReplicas}}'"


@pytest.fixture
def calmer(release: Namespace) -> Namespace:
    """The release, with an autoscaler that takes pods away sooner."""
    release.run(f"helm upgrade {SERVICE} ./platform/helm/{SERVICE} --reuse-values {QUICK_DOWN} --wait --timeout 120s")
    release.wait_for_replicas(3)
    return release


def replicas(release: Namespace) -> int:
    return int(release.run(f"kubectl get deployment {SERVICE} -o jsonpath='{{.spec.replicas}}'"))


@pytest.mark.full  # two minutes; e2e/task_api/faults/test_autoscaling.py goes up and back in one
def test_the_autoscaler_goes_up_under_load_and_back_without_a_failed_request(
    calmer: Namespace,
    wrk: str,
    https_port: int,
    record_property: Callable[[str, object], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    release, output = calmer, tmp_path_factory.mktemp("load") / "wrk"
    eventually(
        lambda: "unknown" not in release.run(f"kubectl get hpa {SERVICE} --no-headers"),
        "the autoscaler has CPU figures: see `kubectl top pods` and the log of metrics-server",
        seconds=120,
    )
    most = ready = 0
    with Traffic(release) as traffic:
        started = time.monotonic()
        load = release.start(
            f"{wrk} --threads 1 --connections {CONNECTIONS} --duration {LOAD_SECONDS}s --timeout 10s --latency"
            f" --header 'Host: {release.host}' 'https://127.0.0.1:{https_port}{LOAD_PATH}'",
            output,
        )
        try:
            while load.poll() is None and ready < LEAST:
                most = max(most, replicas(release))
                ready = int(release.run(READY) or 0)
                time.sleep(1)
            up_after = time.monotonic() - started
        finally:
            load.send_signal(signal.SIGINT)  # at which it says what it saw
            load.wait(timeout=15)
        said = output.read_text()
        assert load.returncode == 0, said
        assert ready >= LEAST, (
            f"{ready} pods ready under load, {most} wanted at most: see `kubectl describe hpa {SERVICE}`\n{said}"
        )
        ended = time.monotonic()
        release.wait_for_replicas(3, seconds=180)
        down_after = time.monotonic() - ended
        eventually(
            lambda: len(release.run(f"kubectl get pods -l app={SERVICE} -o name").split()) == 3,
            "the pods that were too many are gone",
            seconds=60,
        )
    # wrk says these only when there are any. ("read 2" is what a reload of the ingress controller leaves: it closes
    # connections that are kept alive. Who adds or removes an Ingress before this test has to wait for it.)
    assert "Non-2xx" not in said, said
    assert "Socket errors" not in said, said
    assert traffic.failures == []
    assert traffic.responses > 100
    rate, latency = re.search(r"Requests/sec: +(\S+)", said), re.search(r"99% +(\S+)", said)
    requests = re.search(r"(\d+) requests in", said)
    assert rate
    assert latency
    assert requests
    record_property(
        SUMMARY,
        f"Autoscaler: from 3 to {LEAST} or more ready pods within {up_after:.0f} s of load, {most} at most, back at 3"
        f" {down_after:.0f} s after it (10 s of calm); {requests[1]} requests of {CONNECTIONS} connections"
        f" ({rate[1]}/s, p99 {latency[1]}) and {traffic.responses} more of other kinds, none failed",
    )
