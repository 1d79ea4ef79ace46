"""Draining the node of the bundled PostgreSQL, as in docs/operate.md: temporarily, and permanently."""

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
DRAIN, RETURN, REPLACE = commands_run_by("e2e/task_api/test_disruption.py", "docs/operate.md", SECTION)


@pytest.fixture(scope="module")
def release(make_namespace: MakeNamespace) -> Namespace:
    """Three pods with their database, and nothing that affects other tenants of a node."""
    namespace = make_namespace("e2e-drain")
    namespace.values += f" --set pods.database.podLabels.e2e={namespace.name}"
    namespace.install()
    return namespace


@pytest.fixture
def node(release: Namespace) -> Iterator[str]:
    """The database's node, made schedulable again at the end."""
    name = release.run("kubectl get pod task-api-postgres-0 -o jsonpath='{.spec.nodeName}'")
    try:
        yield name
    finally:
        release.run(f"kubectl uncordon {name}")


def drain(release: Namespace, node: str) -> None:
    """Drains the node, except for its other tenants."""
    command = f"kubectl drain --timeout=90s --pod-selector=e2e={release.name}"
    release.run(DRAIN.commands.replace("NODE", node).replace("kubectl drain", command), seconds=300)
    assert release.run(f"kubectl get pods --field-selector spec.nodeName={node} -o name") == ""
    assert release.run("kubectl get pod task-api-postgres-0 -o jsonpath='{.status.phase}'") == "Pending"


def restart_pod_without_database(release: Namespace) -> None:
    pod = release.run("kubectl get pods -l app=task-api -o name").split()[0]
    release.run(f"kubectl delete {pod}")
    log_lines = "kubectl logs -l app=task-api --tail=-1 | grep 'is not available yet' || true"
    eventually(
        lambda: "Is it running, and does" in release.run(log_lines), "a new pod logs what it waits for", seconds=60
    )


def restarts(release: Namespace) -> int:
    pods = json.loads(release.run("kubectl get pods -l app=task-api -o json"))["items"]
    return sum(status["restartCount"] for pod in pods for status in pod["status"]["containerStatuses"])


def test_node_drain_evicts_every_pod_and_pods_recover_once_the_node_is_back(release: Namespace, node: str) -> None:
    with release.client() as client:
        path = client.post("/v1/tasks", json={"title": "on the node's disk"}).headers["location"]
        drain(release, node)
        restart_pod_without_database(release)
        release.run(RETURN.commands.replace("NODE", node))
        release.wait_for_rollout()
        eventually(lambda: client.get(path).status_code == 200, "the task is readable again", seconds=60)
    assert restarts(release) == 0


def test_node_that_does_not_return_is_replaced_through_a_backup(release: Namespace, node: str, tmp_path: Path) -> None:
    file = tmp_path / "tasks.dump"
    with release.client() as client:
        path = client.post("/v1/tasks", json={"title": "in the backup"}).headers["location"]
        release.run(f"make backup FILE={file}")
        drain(release, node)
        commands = REPLACE.commands.replace("~/.kube/production", "$KUBECONFIG").replace("tasks.dump", str(file))
        release.run(commands, seconds=400)
        assert release.run("kubectl get pod task-api-postgres-0 -o jsonpath='{.spec.nodeName}'") != node
        eventually(lambda: client.get(path).status_code == 200, "the task is readable again", seconds=60)
