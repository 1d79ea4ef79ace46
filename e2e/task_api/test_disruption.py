"""The node of the bundled PostgreSQL is drained, as docs/operate.md says: for a while, and for good."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from documentation import commands_run_by
from e2e.eventually import eventually
from e2e.namespace import MakeNamespace, Namespace

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

SECTION = "Drain the node of the bundled PostgreSQL"
LEAVE, COME_BACK, FOR_GOOD = commands_run_by("e2e/task_api/test_disruption.py", "docs/operate.md", SECTION)


@pytest.fixture(scope="module")
def release(make_namespace: MakeNamespace) -> Namespace:
    """Three pods with their database; with nothing that disturbs a node's other tenants."""
    namespace = make_namespace("e2e-drain")
    namespace.values += f" --set pods.database.podLabels.e2e={namespace.name}"
    namespace.install()
    return namespace


@pytest.fixture
def node(release: Namespace) -> Iterator[str]:
    """The database's. Whatever happens, pods may come to it afterwards."""
    found = release.run("kubectl get pod task-api-postgres-0 -o jsonpath='{.spec.nodeName}'")
    try:
        yield found
    finally:
        release.run(f"kubectl uncordon {found}")


def leave(release: Namespace, node: str) -> None:
    """Without other tenants of the node, which are no part of this."""
    ours = f"kubectl drain --timeout=90s --pod-selector=e2e={release.name}"
    release.run(LEAVE.commands.replace("NODE", node).replace("kubectl drain", ours), seconds=300)
    assert release.run(f"kubectl get pods --field-selector spec.nodeName={node} -o name") == ""
    assert release.run("kubectl get pod task-api-postgres-0 -o jsonpath='{.status.phase}'") == "Pending"


def start_one_without_the_database(release: Namespace) -> None:
    pod = release.run("kubectl get pods -l app=task-api -o name").split()[0]
    release.run(f"kubectl delete {pod}")
    waits = "kubectl logs -l app=task-api --tail=-1 | grep 'is not available yet' || true"
    eventually(lambda: "Is it running, and does" in release.run(waits), "a new pod says what it waits for", seconds=60)


def restarts(release: Namespace) -> int:
    pods = json.loads(release.run("kubectl get pods -l app=task-api -o json"))["items"]
    return sum(status["restartCount"] for pod in pods for status in pod["status"]["containerStatuses"])


def test_a_drained_node_is_empty_and_pods_go_on_once_it_is_back(release: Namespace, node: str) -> None:
    with release.client() as client:
        path = client.post("/v1/tasks", json={"title": "on the node's disk"}).headers["location"]
        leave(release, node)
        start_one_without_the_database(release)
        release.run(COME_BACK.commands.replace("NODE", node))
        release.wait_for_rollout()
        eventually(lambda: client.get(path).status_code == 200, "the task is there again", seconds=60)
    assert restarts(release) == 0


def test_a_node_that_does_not_come_back_is_left_with_a_backup(release: Namespace, node: str, tmp_path: Path) -> None:
    file = tmp_path / "tasks.dump"
    with release.client() as client:
        path = client.post("/v1/tasks", json={"title": "in the backup"}).headers["location"]
        release.run(f"make backup FILE={file}")
        leave(release, node)
        release.run(FOR_GOOD.commands.replace("tasks.dump", str(file)), seconds=400)
        assert release.run("kubectl get pod task-api-postgres-0 -o jsonpath='{.spec.nodeName}'") != node
        eventually(lambda: client.get(path).status_code == 200, "the task is there again", seconds=60)
