"""A node is drained for maintenance without an effect on clients."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import SUMMARY
from e2e.namespace import Namespace
from e2e.traffic import Traffic
from under_test import SERVICE


@pytest.fixture
def node(release: Namespace) -> Iterator[str]:
    """The worker with most of the API's pods, made schedulable again at the end."""
    release.wait_for_replicas(3)
    nodes = release.run(f"kubectl get pods -l app={SERVICE} -o jsonpath='{{.items[*].spec.nodeName}}'").split()
    busiest, pods = Counter(nodes).most_common(1)[0]
    assert pods >= 2
    try:
        yield busiest
    finally:
        release.run(f"kubectl uncordon {busiest}")


def events(watched: str) -> Iterator[dict[str, Any]]:
    """The events of `kubectl get --watch --output-watch-events -o json`: consecutive JSON documents."""
    decoder, position = json.JSONDecoder(), 0
    while position < len(watched):
        event, end = decoder.raw_decode(watched, position)
        yield event
        position = end + len(watched[end:]) - len(watched[end:].lstrip())


def fewest_ready(watched: str) -> tuple[int, int]:
    """The minimum number of ready endpoints at any time, over all slices of the Service, and the number of changes."""
    ready: dict[str, int] = {}
    counts = []
    for event in events(watched):
        slice_ = event["object"]
        endpoints = [] if event["type"] == "DELETED" else slice_["endpoints"] or []
        ready[slice_["metadata"]["name"]] = sum(bool(endpoint["conditions"]["ready"]) for endpoint in endpoints)
        counts.append(sum(ready.values()))
    return min(counts), len(counts)


@pytest.mark.full
def test_node_drain_leaves_the_service_ready_and_fails_no_request(
    release: Namespace, node: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    watch = release.start(
        f"kubectl get endpointslices -l kubernetes.io/service-name={SERVICE} --watch --output-watch-events -o json",
        tmp_path / "endpointslices",
    )
    try:
        with Traffic(release) as traffic:
            # Only its API pods. PostgreSQL is a single pod whose volume is bound to its node: moving it would be
            # downtime, or impossible. And the node has unrelated tenants: Prometheus, a release.
            output = release.run(
                f"kubectl drain {node} --ignore-daemonsets --delete-emptydir-data --timeout=150s"
                f" --pod-selector=app={SERVICE},e2e={release.name}"
            )
            release.wait_for_replicas(3)
    finally:
        watch.terminate()
        watch.wait(timeout=10)
    nodes = release.run(f"kubectl get pods -l app={SERVICE} -o jsonpath='{{.items[*].spec.nodeName}}'").split()
    assert node not in nodes
    evicted = output.count(" evicted")
    assert evicted >= 2, output

    fewest, changes = fewest_ready((tmp_path / "endpointslices").read_text())
    assert changes > evicted  # the watch saw the evictions
    assert fewest >= 1
    assert fewest == 2, "the PodDisruptionBudget allows one disruption at a time"
    assert traffic.failures == []
    assert traffic.responses > 100
    record_property(
        SUMMARY,
        f"Drain of a node with {evicted} of 3 pods: never fewer than {fewest} ready endpoints;"
        f" {traffic.responses} requests in that time, none failed",
    )
