"""The release that is broken on purpose, and the clients who live through it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from acknowledged.clients import Connect
from acknowledged.row import Row
from acknowledged.trial import Trial, judged
from e2e.conftest import QUICK_DOWN, REPOSITORY, SUMMARY, MakeNamespace, Namespace
from e2e.faults.report import Report

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
def report(request: pytest.FixtureRequest, image: str) -> Iterator[Report]:
    """The page of this run. A run of a part, or one that was interrupted, leaves the page of a whole run alone."""
    selected = shlex.join(request.config.invocation_params.args)
    collected = Report(image, selected or "all")
    yield collected
    whole = not selected and request.session.exitstatus != pytest.ExitCode.INTERRUPTED
    collected.write(REPOSITORY / "reports" / ("faults.md" if whole else "faults-partial.md"))


@pytest.fixture
def keep(report: Report, record_property: Callable[[str, object], None]) -> Callable[[Row], None]:
    """Puts a row on the page and prints it at the end of the run."""

    def keeping(row: Row) -> None:
        report.rows.append(row)
        record_property(SUMMARY, str(row))

    return keeping


@pytest.fixture
def live(victim: Namespace, keep: Callable[[Row], None]) -> Live:
    """`with live("what is broken") as clients:` has clients live through the block, and judges what they were told."""

    def living(
        fault: str, *, graceful: bool = False, connect: Connect = victim.client
    ) -> AbstractContextManager[Trial]:
        name = re.sub("[^a-z0-9]+", "-", fault.lower()).strip("-")
        return judged(fault, connect, REPOSITORY / f"reports/faults/{name}.jsonl", keep, graceful=graceful)

    return living
