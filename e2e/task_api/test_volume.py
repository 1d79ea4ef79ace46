"""The volume of the bundled database gets another size by the commands of docs/operate.md, not by its value alone."""

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


@pytest.fixture(scope="module")
def storage_class() -> Iterator[str]:
    """kind's own, whose claims may grow: the server takes that, as it does for the storage of a cloud."""
    kind = json.loads(kubectl("get", "storageclass", "standard", "--output", "json"))
    made = {"metadata": {"name": CLASS}, "allowVolumeExpansion": True}
    kubectl("apply", "--filename", "-", stdin=json.dumps({k: v for k, v in kind.items() if k != "metadata"} | made))
    yield CLASS
    kubectl("delete", "storageclass", CLASS)


@pytest.fixture(scope="module")
def namespace(make_namespace: MakeNamespace, storage_class: str) -> Namespace:
    namespace = make_namespace("e2e-volume")
    namespace.values += f" --set database.bundled.storageClassName={storage_class} --set replicaCount=1"
    namespace.run(f"helm install task-api {CHART} {namespace.values} --wait --timeout 120s")
    namespace.wait_until_it_serves()
    return namespace


def typed(commands: str, namespace: Namespace, folder: Path) -> str:
    """The commands, with what stands for a values file of one's own, and with the file of the backup elsewhere."""
    own = commands.replace("-f production.yaml", namespace.values).replace("FILE=", f"FILE={folder}/")
    return f"export NAMESPACE={namespace.name}\n{own}"


def state(namespace: Namespace) -> str:
    """What an upgrade that is refused may not touch."""
    objects = "kubectl get deployment,statefulset,pod,pvc,service,networkpolicy -o jsonpath"
    return namespace.run(f"{objects}='{{range .items[*]}}{{.metadata.uid}} {{.metadata.generation}}{{\"\\n\"}}{{end}}'")


@pytest.mark.parametrize("storage", ["2Gi", "500Mi"])
def test_another_size_is_refused_before_anything_is_changed(namespace: Namespace, storage: str) -> None:
    before = state(namespace)
    values = f"{namespace.values} --set image.tag=other --set database.bundled.storage={storage}"
    refused = namespace.attempt(f"helm upgrade task-api {CHART} {values}")
    assert refused.returncode != 0
    assert f"database.bundled.storage is {storage}, but the database volume was created with 1Gi." in refused.stderr
    assert "docs/operate.md#grow-the-volume-of-the-database" in refused.stderr
    assert state(namespace) == before
    assert namespace.run("helm list --short --failed") == ""


def test_another_storage_class_is_refused(namespace: Namespace) -> None:
    upgrade = f"helm upgrade task-api {CHART} {namespace.values}"
    refused = namespace.attempt(f"{upgrade} --set database.bundled.storageClassName=standard")
    assert 'database.bundled.storageClassName is "standard", but the database volume was created with' in refused.stderr


def test_the_volume_grows_under_the_running_database(namespace: Namespace, tmp_path: Path) -> None:
    with namespace.client() as client:
        path, said = EXAMPLE.write(client)
    pod = (
        "kubectl get pod task-api-postgres-0 -o jsonpath='{.metadata.uid} {.status.containerStatuses[0].restartCount}'"
    )
    before = namespace.run(pod)
    namespace.run(typed(GROW.commands, namespace, tmp_path))
    namespace.run("kubectl rollout status statefulset/task-api-postgres --timeout=60s")
    assert namespace.run(pod) == before
    claims = "kubectl get statefulset task-api-postgres -o jsonpath='{.spec.volumeClaimTemplates[0].spec.resources}'"
    assert json.loads(namespace.run(claims)) == {"requests": {"storage": "2Gi"}}
    wanted = "kubectl get pvc data-task-api-postgres-0 -o jsonpath='{.spec.resources.requests.storage}'"
    assert namespace.run(wanted) == "2Gi"
    with namespace.client() as client:
        assert client.get(path).json() == said
    # The next upgrade has nothing to refuse, whichever way the size is written.
    namespace.run(f"helm upgrade task-api {CHART} {namespace.values} --set database.bundled.storage=2048Mi")


def test_through_a_backup_the_data_comes_to_a_volume_of_any_size(namespace: Namespace, tmp_path: Path) -> None:
    with namespace.client() as client:
        path, said = EXAMPLE.write(client)
    lines = MOVE.commands.splitlines()
    (install,) = (number for number, line in enumerate(lines) if line.startswith("helm install"))
    namespace.run(typed("\n".join(lines[: install - 1]), namespace, tmp_path))
    refused = namespace.attempt(typed(lines[install], namespace, tmp_path))
    assert "the volume that is there, data-task-api-postgres-0, has 2Gi and would stay so" in refused.stderr
    printed = namespace.run(typed("\n".join(lines[install - 1 :]), namespace, tmp_path))
    (safety,) = re.findall(r"The previous data is in (\S+)\.$", printed, re.MULTILINE)
    namespace.run(f"rm {safety}")
    namespace.wait_until_it_serves()
    with namespace.client() as client:
        assert client.get(path).json() == said
