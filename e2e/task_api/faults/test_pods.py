"""Pods are replaced: by a release, a deletion, a kill, a node drain."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import pytest
from acknowledged.trial import trial
from e2e.eventually import eventually
from e2e.namespace import Namespace
from e2e.task_api.faults.conftest import CHART, REPLICAS, ClientsDuring, MakeVersion, pods, revision, wait_until_settled
from e2e.task_api.faults.nodes import restarts, signal_pod

STOPPED_SECONDS = 20


def wait_for_restart(namespace: Namespace, pod: str, before: int) -> None:
    eventually(lambda: restarts(namespace)[pod] > before, f"the container of {pod} restarts", seconds=60)


def builds(namespace: Namespace) -> set[str]:
    """The builds that respond. Requests are balanced over the pods, so each pod receives several."""
    with namespace.client() as client:
        return {client.get("/health").json()["revision"] for _ in range(10 * REPLICAS)}


@pytest.mark.full
def test_rolling_update_and_rollback_fail_no_request(
    victim: Namespace, clients_during: ClientsDuring, make_version: MakeVersion
) -> None:
    tag = make_version("next", "ENV SERVICE_REVISION=next")
    before, first = revision(victim), builds(victim)
    with clients_during("rolling update to another image, then `helm rollback`", graceful=True) as clients:
        try:
            old = pods(victim)
            clients.mark_fault("rolling update")
            victim.run(f"helm upgrade task-api {CHART} {victim.values} --set image.tag={tag} --wait")
            wait_until_settled(victim, old)
            assert builds(victim) == {"next"}
        finally:
            old = pods(victim)
            clients.mark_fault("rollback")
            victim.run(f"helm rollback task-api {before} --wait")
        wait_until_settled(victim, old)
        assert builds(victim) == first


def test_graceful_pod_deletion_fails_no_request(victim: Namespace, clients_during: ClientsDuring) -> None:
    with clients_during("half of the pods deleted gracefully", graceful=True) as clients:
        half = pods(victim)[: REPLICAS // 2 + 1]
        clients.mark_fault("delete")
        victim.run(f"kubectl delete pod {' '.join(half)} --wait=false")
        wait_until_settled(victim, half)


@pytest.mark.full
def test_forced_pod_deletion_loses_nothing(victim: Namespace, clients_during: ClientsDuring) -> None:
    with clients_during("half of the pods force-deleted") as clients:
        half = pods(victim)[: REPLICAS // 2 + 1]
        clients.mark_fault("delete --force")
        victim.run(f"kubectl delete pod {' '.join(half)} --grace-period=0 --force")
        wait_until_settled(victim, half)


@pytest.mark.full
@pytest.mark.parametrize("force", [False, True], ids=["with-grace", "without-grace"])
def test_repeated_pod_deletion(victim: Namespace, clients_during: ClientsDuring, force: bool) -> None:
    deleted = "force-deleted" if force else "deleted gracefully"
    with clients_during(f"half of the pods {deleted}, three times", graceful=not force) as clients:
        for _ in range(3):
            half = pods(victim)[: REPLICAS // 2 + 1]
            clients.mark_fault("delete")
            victim.run(
                f"kubectl delete pod {' '.join(half)} " + ("--grace-period=0 --force" if force else "--wait=false")
            )
            wait_until_settled(victim, half)


@pytest.mark.full
def test_processes_killed_from_the_node_lose_nothing(victim: Namespace, clients_during: ClientsDuring) -> None:
    before = restarts(victim)
    with clients_during("SIGKILL of each pod's process, one after the other") as clients:
        for pod in pods(victim):
            clients.mark_fault(f"SIGKILL of {pod}")
            signal_pod(victim, pod, "KILL")
            wait_for_restart(victim, pod, before[pod])
            victim.wait_for_replicas(REPLICAS)


@pytest.mark.full
def test_stopped_process_is_removed_from_the_endpoints_and_loses_nothing(
    victim: Namespace, clients_during: ClientsDuring
) -> None:
    pod = pods(victim)[0]
    with clients_during(f"SIGSTOP of one pod's process for {STOPPED_SECONDS} s") as clients:
        clients.mark_fault("SIGSTOP")
        signal_pod(victim, pod, "STOP")
        started = clients.history.now()
        try:
            eventually(
                lambda: (
                    victim.run(f"kubectl get pod {pod} -o jsonpath='{{.status.containerStatuses[0].ready}}'") == "false"
                ),
                "the pod is no longer ready",
                seconds=40,
            )
            eventually(lambda: clients.history.now() - started > STOPPED_SECONDS, "the pause is over", seconds=40)
        finally:
            signal_pod(victim, pod, "CONT")
        wait_until_settled(victim)


def pods_by_node(namespace: Namespace) -> dict[str, list[str]]:
    names: dict[str, list[str]] = defaultdict(list)
    for pod in json.loads(namespace.run("kubectl get pods -l app=task-api -o json"))["items"]:
        names[pod["spec"]["nodeName"]].append(pod["metadata"]["name"])
    return names


@pytest.mark.full
def test_node_drain_fails_no_request(victim: Namespace, clients_during: ClientsDuring) -> None:
    node, moving = max(pods_by_node(victim).items(), key=lambda item: len(item[1]))
    with clients_during("node drained and uncordoned", graceful=True) as clients:
        clients.mark_fault("drain")
        try:
            # Only the API's pods: moving the bundled PostgreSQL is a separate fault.
            victim.run(
                f"kubectl drain {node} --ignore-daemonsets --delete-emptydir-data --timeout=150s"
                f" --pod-selector=app=task-api,e2e={victim.name}"
            )
            wait_until_settled(victim, moving)
            assert node not in pods_by_node(victim)
        finally:
            victim.run(f"kubectl uncordon {node}")


@pytest.mark.full
def test_failing_deploy_is_killed_and_rolled_back_without_a_failed_request(
    victim: Namespace, clients_during: ClientsDuring, tmp_path: Path
) -> None:
    """The image does not exist, and the deploy itself is killed while it waits."""
    before = revision(victim)
    with clients_during("deploy of a missing image, killed, rolled back", graceful=True) as clients:
        clients.mark_fault("deploy")
        deploy = victim.start(
            f"helm upgrade task-api {CHART} {victim.values} --set image.tag=nowhere --wait", tmp_path / "deploy"
        )
        try:
            eventually(
                lambda: re.search("ErrImagePull|ImagePullBackOff", victim.run("kubectl get pods")),
                "pulling the image fails",
            )
            assert deploy.poll() is None, (tmp_path / "deploy").read_text()
        finally:
            deploy.kill()
            deploy.wait(timeout=10)
            clients.mark_fault("rollback")
            victim.run(f"helm rollback task-api {before} --wait")
        wait_until_settled(victim)


@pytest.mark.full
def test_clients_detect_a_service_that_acknowledges_before_it_commits(
    victim: Namespace, make_version: MakeVersion, tmp_path: Path
) -> None:
    """The tests above only prove something if these clients can detect a loss through the ingress."""
    tag = make_version(
        "planted",
        "COPY planted.py /planted.py\n"
        'ENTRYPOINT ["python", "/planted.py", "acknowledge-before-commit"]\n'
        'CMD ["serve", "--default-host", "::"]',
    )
    before = revision(victim)
    try:
        victim.run(f"helm upgrade task-api {CHART} {victim.values} --set image.tag={tag} --wait")
        wait_until_settled(victim)
        # No updates or reads: they would immediately reveal what is missing.
        with trial(victim.client, tmp_path / "history.jsonl", writers=8, updaters=0, readers=0) as clients:
            restarted = restarts(victim)
            for pod in pods(victim):
                clients.mark_fault(f"SIGKILL of {pod}")
                signal_pod(victim, pod, "KILL")
                wait_for_restart(victim, pod, restarted[pod])
            victim.wait_for_replicas(REPLICAS)
    finally:
        victim.run(f"helm rollback task-api {before} --wait")
    wait_until_settled(victim)
    assert clients.verdict.lost, f"the loss was not detected: {clients.verdict}"
