"""Growing the bundled database's volume with the commands of docs/operate.md: changing the value is not enough."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from documentation import commands_run_by
from e2e.cluster import kubectl
from e2e.example import EXAMPLE
from e2e.namespace import MakeNamespace, Namespace

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

CHART = "./platform/helm/task-api"
GROW, MOVE = commands_run_by("e2e/task_api/test_volume.py", "docs/operate.md")
CLASS = "e2e-growing"
IMAGE = "kubectl get deployment task-api -o jsonpath='{.spec.template.spec.containers[0].image}'"


@pytest.fixture(scope="module")
def storage_class() -> Iterator[str]:
    """kind's own class, with expandable claims: the server accepts that, as with a cloud's storage."""
    default = json.loads(kubectl("get", "storageclass", "standard", "--output", "json"))
    changes = {"metadata": {"name": CLASS}, "allowVolumeExpansion": True}
    kubectl(
        "apply", "--filename", "-", stdin=json.dumps({k: v for k, v in default.items() if k != "metadata"} | changes)
    )
    yield CLASS
    kubectl("delete", "storageclass", CLASS)


@pytest.fixture(scope="module")
def namespace(make_namespace: MakeNamespace, storage_class: str) -> Namespace:
    namespace = make_namespace("e2e-volume")
    namespace.values += f" --set database.bundled.storageClassName={storage_class} --set replicaCount=1"
    namespace.run(f"helm install task-api {CHART} {namespace.values} --wait --timeout 120s")
    namespace.wait_until_it_serves()
    return namespace


def adapt(commands: str, folder: Path) -> str:
    """The commands, with the placeholder for the kubeconfig replaced, and their files in another folder."""
    files = {name: f"{folder}/{name}" for name in ("tasks.dump", "deployed.yaml")}
    for old, new in {"~/.kube/production": "$KUBECONFIG", **files}.items():
        assert old in commands
        commands = commands.replace(old, new)
    return commands


def state(namespace: Namespace) -> str:
    """What a rejected upgrade must not change."""
    objects = "kubectl get deployment,statefulset,pod,pvc,service,networkpolicy -o jsonpath"
    return namespace.run(f"{objects}='{{range .items[*]}}{{.metadata.uid}} {{.metadata.generation}}{{\"\\n\"}}{{end}}'")


@pytest.mark.parametrize("storage", ["2Gi", "500Mi"])
def test_changed_size_is_rejected_before_anything_is_changed(namespace: Namespace, storage: str) -> None:
    before = state(namespace)
    values = f"{namespace.values} --set image.tag=other --set database.bundled.storage={storage}"
    rejected = namespace.attempt(f"helm upgrade task-api {CHART} {values}")
    assert rejected.returncode != 0
    assert f"database.bundled.storage is {storage}, but the database volume was created with 1Gi." in rejected.stderr
    assert "docs/operate.md#grow-the-volume-of-the-database" in rejected.stderr
    assert state(namespace) == before
    assert namespace.run("helm list --short --failed") == ""


def test_changed_storage_class_is_rejected(namespace: Namespace) -> None:
    upgrade = f"helm upgrade task-api {CHART} {namespace.values}"
    rejected = namespace.attempt(f"{upgrade} --set database.bundled.storageClassName=standard")
    assert (
        'database.bundled.storageClassName is "standard", but the database volume was created with' in rejected.stderr
    )


def test_volume_grows_under_the_running_database(namespace: Namespace) -> None:
    with namespace.client() as client:
        path, content = EXAMPLE.write(client)
    pod = (
        "kubectl get pod task-api-postgres-0 -o jsonpath='{.metadata.uid} {.status.containerStatuses[0].restartCount}'"
    )
    before = namespace.run(pod)
    image = namespace.run(IMAGE)
    namespace.run(GROW.commands)
    namespace.run("kubectl rollout status statefulset/task-api-postgres --timeout=60s")
    assert namespace.run(pod) == before
    claims = "kubectl get statefulset task-api-postgres -o jsonpath='{.spec.volumeClaimTemplates[0].spec.resources}'"
    assert json.loads(namespace.run(claims)) == {"requests": {"storage": "2Gi"}}
    requested_size = "kubectl get pvc data-task-api-postgres-0 -o jsonpath='{.spec.resources.requests.storage}'"
    assert namespace.run(requested_size) == "2Gi"
    assert namespace.run(IMAGE) == image
    with namespace.client() as client:
        assert client.get(path).json() == content
    # The next upgrade is accepted, in either notation of the size.
    namespace.run(f"helm upgrade task-api {CHART} {namespace.values} --set database.bundled.storage=2048Mi")


def test_data_moves_to_a_volume_of_any_size_through_a_backup(namespace: Namespace, tmp_path: Path) -> None:
    with namespace.client() as client:
        path, content = EXAMPLE.write(client)
    image = namespace.run(IMAGE)
    output = namespace.run(adapt(MOVE.commands, tmp_path), seconds=300)
    (safety,) = re.findall(r"The previous data is in (\S+)\.$", output, re.MULTILINE)
    namespace.run(f"rm {safety}")
    namespace.wait_until_it_serves()
    assert namespace.run(IMAGE) == image
    with namespace.client() as client:
        assert client.get(path).json() == content


def test_release_and_volume_stay_if_the_backup_before_a_move_fails(namespace: Namespace, tmp_path: Path) -> None:
    (tmp_path / "tasks.dump").write_text("of another day")
    kept = "kubectl get deployment,statefulset,pvc -o jsonpath='{.items[*].metadata.uid}'"
    before = namespace.run(kept)
    failed = namespace.attempt(adapt(MOVE.commands, tmp_path))
    assert failed.returncode != 0
    assert "tasks.dump already exists and is not overwritten" in failed.stderr
    assert namespace.run(kept) == before


def test_size_larger_than_that_of_a_remaining_volume_is_rejected(namespace: Namespace) -> None:
    namespace.run("helm uninstall task-api --wait")
    values = f"{namespace.values} --set database.bundled.storage=4Gi"
    rejected = namespace.attempt(f"helm install task-api {CHART} {values}")
    assert "the existing volume, data-task-api-postgres-0, has 3Gi and would not be resized" in rejected.stderr
