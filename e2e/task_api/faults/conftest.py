"""The release that is broken on purpose, and the clients who live through it."""

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
Live = Callable[..., AbstractContextManager[Trial]]


def revision(namespace: Namespace) -> int:
    """The release's revision, to come back to."""
    found: int = json.loads(namespace.run("helm history task-api --max 1 -o json"))[0]["revision"]
    return found


def pods(namespace: Namespace) -> list[str]:
    """The API's pods, the busiest node's first."""
    found = namespace.run(
        "kubectl get pods -l app=task-api --field-selector status.phase=Running --sort-by .spec.nodeName -o name"
    )
    return found.replace("pod/", "").split()


def settle(namespace: Namespace, gone: Collection[str] = ()) -> None:
    """Returns once there are three pods and no more, all ready, and none of those that had to go."""

    def settled() -> bool:
        found = json.loads(namespace.run("kubectl get pods -l app=task-api -o json"))["items"]
        return len(found) == REPLICAS and all(
            pod["metadata"]["name"] not in gone
            and "deletionTimestamp" not in pod["metadata"]
            and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
            for pod in found
        )

    namespace.wait_for_rollout()
    # The pods themselves: for a moment after a deletion the Deployment's status still says that all are ready.
    eventually(settled, f"there are {REPLICAS} pods, all ready, and none of {list(gone)}")


@pytest.fixture(scope="session")
def installed(make_namespace: MakeNamespace) -> Namespace:
    """The chart with three replicas and the bundled PostgreSQL. The autoscaler adds none: only the fault counts."""
    namespace = make_namespace("e2e-faults")
    namespace.values += f" {QUICK_DOWN} --set autoscaling.maxReplicas={REPLICAS}"
    namespace.install(REPLICAS)
    return namespace


@pytest.fixture
def victim(installed: Namespace) -> Namespace:
    """The release, whole again after the fault before."""
    settle(installed)
    installed.wait_until_it_serves()
    return installed


@pytest.fixture(scope="session")
def make_version(image: str) -> Iterator[MakeVersion]:
    """Makes the image under test again with a difference, lines of a Dockerfile, under a tag that the nodes have."""
    made = []

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
        made.append(name)
        load = ["kind", "load", "docker-image", name, "--name", CONTEXT.removeprefix("kind-")]
        subprocess.run(load, capture_output=True, check=True, timeout=300)
        return tag

    yield make
    if made:
        subprocess.run(["docker", "image", "rm", *made], capture_output=True, check=True)


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
