"""The release that faults are injected into, and its clients."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager

import pytest
from acknowledged.clients import Connect
from acknowledged.row import Row
from acknowledged.trial import Trial, judged
from e2e.cluster import CONTEXT, REPOSITORY
from e2e.conftest import SUMMARY
from e2e.eventually import eventually
from e2e.namespace import QUICK_DOWN, MakeNamespace, Namespace
from e2e.task_api.faults.report import Report

CHART = "./platform/helm/task-api"
REPLICAS = 3
POSTGRES = "task-api-postgres-0"

MakeVersion = Callable[[str, str], str]
ClientsDuring = Callable[..., AbstractContextManager[Trial]]


def revision(namespace: Namespace) -> int:
    """The release's current revision, for a rollback."""
    number: int = json.loads(namespace.run("helm history task-api --max 1 -o json"))[0]["revision"]
    return number


def pods(namespace: Namespace) -> list[str]:
    """The API's pods, sorted by node."""
    output = namespace.run(
        "kubectl get pods -l app=task-api --field-selector status.phase=Running --sort-by .spec.nodeName -o name"
    )
    return output.replace("pod/", "").split()


def wait_until_settled(namespace: Namespace, gone: Collection[str] = ()) -> None:
    """Returns once there are exactly three pods, all ready, and none of those that were to be deleted."""

    def settled() -> bool:
        items = json.loads(namespace.run("kubectl get pods -l app=task-api -o json"))["items"]
        return len(items) == REPLICAS and all(
            pod["metadata"]["name"] not in gone
            and "deletionTimestamp" not in pod["metadata"]
            and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
            for pod in items
        )

    namespace.wait_for_rollout()
    # The pods themselves: shortly after a deletion the Deployment's status still reports all as ready.
    eventually(settled, f"there are {REPLICAS} pods, all ready, and none of {list(gone)}")


@pytest.fixture(scope="session")
def installed(make_shared_namespace: MakeNamespace) -> Namespace:
    """The chart with three replicas and the bundled PostgreSQL. No autoscaling: only the fault has an effect."""
    namespace = make_shared_namespace("e2e-faults")
    namespace.values += f" {QUICK_DOWN} --set autoscaling.maxReplicas={REPLICAS}"
    namespace.install(REPLICAS)
    return namespace


@pytest.fixture
def victim(installed: Namespace) -> Namespace:
    """The release, recovered from the previous fault."""
    wait_until_settled(installed)
    installed.wait_until_it_serves()
    return installed


@pytest.fixture(scope="session")
def make_version(image: str) -> Iterator[MakeVersion]:
    """Builds a variant of the image under test, with extra lines of a Dockerfile, under a tag loaded into the nodes."""
    names = []

    def make(tag: str, difference: str) -> str:
        name = f"{image.rpartition(':')[0]}:{tag}"
        subprocess.run(
            ["docker", "build", "--quiet", "--tag", name, "--file", "-", "services/task-api/tests"],
            cwd=REPOSITORY,
            input=f"FROM {image}\n{difference}\n",
            capture_output=True,
            text=True,
            check=True,
        )
        names.append(name)
        load = ["kind", "load", "docker-image", name, "--name", CONTEXT.removeprefix("kind-")]
        subprocess.run(load, capture_output=True, check=True, timeout=300)
        return tag

    yield make
    if names:
        subprocess.run(["docker", "image", "rm", *names], capture_output=True, check=True)


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest, image: str) -> Iterator[Report]:
    """The report of this run. A partial or interrupted run does not overwrite the report of a complete run."""
    selected = shlex.join(request.config.invocation_params.args)
    collected = Report(image, selected or "all")
    yield collected
    complete = not selected and request.session.exitstatus != pytest.ExitCode.INTERRUPTED
    collected.write(REPOSITORY / "reports" / ("faults.md" if complete else "faults-partial.md"))


@pytest.fixture
def record_row(report: Report, record_property: Callable[[str, object], None]) -> Callable[[Row], None]:
    """Adds a row to the report and prints it at the end of the run."""

    def append(row: Row) -> None:
        report.rows.append(row)
        record_property(SUMMARY, str(row))

    return append


@pytest.fixture
def clients_during(victim: Namespace, record_row: Callable[[Row], None]) -> ClientsDuring:
    """`with clients_during("fault") as clients:` runs clients during the block, and checks their results."""

    def trial_during(
        fault: str, *, graceful: bool = False, connect: Connect = victim.client
    ) -> AbstractContextManager[Trial]:
        name = re.sub("[^a-z0-9]+", "-", fault.lower()).strip("-")
        return judged(fault, connect, REPOSITORY / f"reports/faults/{name}.jsonl", record_row, graceful=graceful)

    return trial_during
