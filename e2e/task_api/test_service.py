"""The deployed service and its tasks, through the ingress and in each pod."""

from __future__ import annotations

import httpx2
import pytest
from e2e.cluster import Cluster
from e2e.namespace import MakeNamespace
from e2e.test_service import pod_url


def test_task_written_through_the_ingress_is_readable_in_every_pod(cluster: Cluster, api: httpx2.Client) -> None:
    response = api.post("/v1/tasks", json={"title": "written once"})
    assert response.status_code == 201
    task = response.json()
    assert api.get(response.headers["location"]).json() == task

    pods = cluster.ready_pods()
    assert len(pods) >= 3
    for pod in pods:
        with pod_url(pod.metadata.name) as url:
            assert httpx2.get(f"{url}/v1/tasks/{task['id']}").json() == task, pod.metadata.name

    assert api.delete(response.headers["location"]).status_code == 204


def test_service_runs_on_postgresql(api: httpx2.Client) -> None:
    health = api.get("/health").json()
    assert (health["status"], health["storage"]) == ("ok", "postgresql")


@pytest.mark.usefixtures("monitoring")
def test_operator_accepts_the_servicemonitor_of_the_manifests(make_namespace: MakeNamespace) -> None:
    """In this file because the other tests of manifests share no objects and run concurrently with these files."""
    namespace = make_namespace("e2e-operator")
    done = namespace.attempt("kubectl apply --dry-run=server --validate=strict -f platform/k8s/monitoring/")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "servicemonitor.monitoring.coreos.com/task-api created" in done.stdout
