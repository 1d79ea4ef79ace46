"""A node is drained, as for its maintenance, and no client notices."""

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
    """The worker with most of the API's pods; whatever happens, pods may come to it afterwards."""
    release.wait_for_replicas(3)
    nodes = release.run(f"kubectl get pods -l app={SERVICE} -o jsonpath='{{.items[*].spec.nodeName}}'").split()
    busiest, pods = Counter(nodes).most_common(1)[0]
    assert pods >= 2
    try:
        yield busiest
    finally:
        release.run(f"kubectl uncordon {busiest}")


def events(watched: str) -> Iterator[dict[str, Any]]:
    """The events of `kubectl get --watch --output-watch-events -o json`: one JSON document after the other."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(watched):
        event, end = decoder.raw_decode(watched, at)
        yield event
        at = end + len(watched[end:]) - len(watched[end:].lstrip())


def fewest_ready(watched: str) -> tuple[int, int]:
    """The fewest endpoints that were ready at any time, over all slices of the Service, and the number of changes."""
    ready: dict[str, int] = {}
    counts = []
    for event in events(watched):
        slice_ = event["object"]
        endpoints = [] if event["type"] == "DELETED" else slice_["endpoints"] or []
        ready[slice_["metadata"]["name"]] = sum(bool(endpoint["conditions"]["ready"]) for endpoint in endpoints)
        counts.append(sum(ready.values()))
    return min(counts), len(counts)


@pytest.mark.full
def test_a_drained_node_leaves_the_service_ready_and_fails_no_request(
    release: Namespace, node: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    watch = release.start(
        f"kubectl get endpointslices -l kubernetes.io/service-name={SERVICE} --watch --output-watch-events -o json",
        tmp_path / "endpointslices",
    )
    try:
        with Traffic(release) as traffic:
            # Its API alone. PostgreSQL is a single pod whose volume is bound to its node: to move it would be
            # downtime, or no move at all. And the node has tenants that are no part of this: Prometheus, a release.
            said = release.run(
                f"kubectl drain {node} --ignore-daemonsets --delete-emptydir-data --timeout=150s"
                f" --pod-selector=app={SERVICE},e2e={release.name}"
            )
            release.wait_for_replicas(3)
    finally:
        watch.terminate()
        watch.wait(timeout=10)
    nodes = release.run(f"kubectl get pods -l app={SERVICE} -o jsonpath='{{.items[*].spec.nodeName}}'").split()
    assert node not in nodes
    evicted = said.count(" evicted")
    assert evicted >= 2, said

    fewest, changes = fewest_ready((tmp_path / "endpointslices").read_text())
    assert changes > evicted  # the watch saw what happened
    assert fewest >= 1
    assert fewest == 2, "the PodDisruptionBudget lets one of three go at a time"
    assert traffic.failures == []
    assert traffic.responses > 100
    record_property(
        SUMMARY,
        f"Drain of a node with {evicted} of 3 pods: never fewer than {fewest} ready endpoints;"
        f" {traffic.responses} requests meanwhile, none failed",
    )
