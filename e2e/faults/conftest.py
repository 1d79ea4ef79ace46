"""The release that is broken on purpose, and the clients who live through it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from acknowledged.clients import Connect
from acknowledged.trial import Trial, trial
from e2e.conftest import QUICK_DOWN, REPOSITORY, SUMMARY, MakeNamespace, Namespace
from e2e.faults.report import Report, Row

CHART = "./platform/helm/task-api"
REPLICAS = 3

Live = Callable[..., AbstractContextManager[Trial]]


@pytest.fixture(scope="session")
def installed(make_namespace: MakeNamespace) -> Namespace:
    """The chart with three replicas and the bundled PostgreSQL. The autoscaler adds none: only the fault counts."""
    namespace = make_namespace("e2e-faults")
    namespace.values += f" {QUICK_DOWN} --set autoscaling.maxReplicas={REPLICAS}"
    namespace.run(f"helm install task-api {CHART} {namespace.values} --wait --timeout 120s")
    namespace.wait_for_replicas(REPLICAS)
    namespace.wait_until_it_serves()
    return namespace


@pytest.fixture
def victim(installed: Namespace) -> Namespace:
    """The release, whole again after the fault before."""
    installed.wait_for_rollout()
    installed.wait_for_replicas(REPLICAS)
    installed.wait_until_it_serves()
    return installed


@pytest.fixture(scope="session")
def report(image: str) -> Iterator[Report]:
    """The page of this run."""
    collected = Report(image)
    yield collected
    collected.write(REPOSITORY / "reports/faults.md")


@pytest.fixture
def live(victim: Namespace, report: Report, record_property: Callable[[str, object], None]) -> Live:
    """`with live("what is broken") as clients:` has clients live through the block, and judges what they were told."""

    @contextmanager
    def living(fault: str, *, graceful: bool = False, connect: Connect = victim.client) -> Iterator[Trial]:
        file = REPOSITORY / "reports/faults" / f"{re.sub('[^a-z0-9]+', '-', fault.lower()).strip('-')}.jsonl"
        with trial(connect, file) as running:
            yield running
        row = Row(fault, running.history, running.verdict)
        report.rows.append(row)
        record_property(SUMMARY, f"{row}\n  {running.verdict}")
        assert running.verdict.broken_promises == [], f"{running.verdict}; the history is in {file}"
        assert running.verdict.unknown == 0, f"{running.verdict}; the history is in {file}"
        assert running.verdict.acknowledged > 0
        if graceful:
            assert running.failures() == [], f"no client may notice this; the history is in {file}"

    return living
