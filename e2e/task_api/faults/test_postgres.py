"""The bundled PostgreSQL stops and restarts."""

from __future__ import annotations

import pytest
from e2e.eventually import eventually
from e2e.namespace import Namespace
from e2e.task_api.faults.conftest import POSTGRES, ClientsDuring
from e2e.task_api.faults.nodes import restarts, signal_pod

SELECTOR = "app.kubernetes.io/name=postgres"


def wait_until_back(namespace: Namespace) -> None:
    namespace.run("kubectl rollout status statefulset/task-api-postgres --timeout=120s")


def test_killed_postgres_loses_nothing_and_restarts_no_pod(victim: Namespace, clients_during: ClientsDuring) -> None:
    api = restarts(victim)
    before = restarts(victim, SELECTOR)[POSTGRES]
    with clients_during("PostgreSQL: SIGKILL") as clients:
        clients.mark_fault("SIGKILL")
        signal_pod(victim, POSTGRES, "KILL")
        eventually(lambda: restarts(victim, SELECTOR)[POSTGRES] > before, "PostgreSQL restarts", seconds=60)
        wait_until_back(victim)
    assert restarts(victim) == api


@pytest.mark.full
def test_deleted_postgres_pod_loses_nothing_and_restarts_no_pod(
    victim: Namespace, clients_during: ClientsDuring
) -> None:
    api = restarts(victim)
    uid = f"kubectl get pod {POSTGRES} -o jsonpath='{{.metadata.uid}}'"
    with clients_during("PostgreSQL: pod deleted") as clients:
        old = victim.run(uid)
        clients.mark_fault("delete")
        victim.run(f"kubectl delete pod {POSTGRES} --wait=false")
        eventually(lambda: victim.attempt(uid).stdout not in {"", old}, "there is a new pod", seconds=90)
        wait_until_back(victim)
    assert restarts(victim) == api


@pytest.mark.full
def test_restarted_postgres_loses_nothing_and_restarts_no_pod(victim: Namespace, clients_during: ClientsDuring) -> None:
    api = restarts(victim)
    with clients_during("PostgreSQL: `kubectl rollout restart`") as clients:
        clients.mark_fault("restart")
        victim.run("kubectl rollout restart statefulset/task-api-postgres")
        wait_until_back(victim)
    assert restarts(victim) == api


@pytest.mark.full
def test_terminated_connections_lose_nothing(victim: Namespace, clients_during: ClientsDuring) -> None:
    cut = (
        f'kubectl exec {POSTGRES} -- psql -U tasks -d tasks -qtAc "SELECT count(pg_terminate_backend(pid))'
        " FROM pg_stat_activity WHERE application_name = 'task-api'\""
    )
    with clients_during("PostgreSQL: all connections terminated, ten times") as clients:
        for _ in range(10):
            clients.mark_fault("terminate")
            assert int(victim.run(cut)) > 0
            clients.wait_until_recovered(3)
