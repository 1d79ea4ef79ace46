"""Pods come and go: by a release, by a hand, by the kernel, by a node's maintenance."""

from __future__ import annotations

from collections import Counter

import pytest
from e2e.conftest import Namespace, eventually
from e2e.faults.conftest import CHART, REPLICAS, Live
from e2e.faults.nodes import restarts, signal_pod

STOPPED_SECONDS = 20


def pods(namespace: Namespace) -> list[str]:
    """The API's pods, the busiest node's first."""
    found = namespace.run(
        "kubectl get pods -l app=task-api --field-selector status.phase=Running --sort-by .spec.nodeName -o name"
    )
    return found.replace("pod/", "").split()


def wait_until_gone(namespace: Namespace, gone: list[str]) -> None:
    eventually(lambda: not set(gone) & set(pods(namespace)), f"{gone} are gone", seconds=90)


def wait_for_restart(namespace: Namespace, pod: str, before: int) -> None:
    eventually(lambda: restarts(namespace)[pod] > before, f"the process of {pod} is started again", seconds=60)


def settle(namespace: Namespace) -> None:
    """Returns once there are three pods, all ready, and the last old one has ended."""
    namespace.wait_for_rollout()
    namespace.wait_for_replicas(REPLICAS)
    eventually(
        lambda: len(namespace.run("kubectl get pods -l app=task-api -o name").split()) == REPLICAS,
        "the last old pod is gone",
        seconds=60,
    )


@pytest.mark.full
def test_a_rolling_update_and_the_way_back_fail_no_request(victim: Namespace, live: Live) -> None:
    before = victim.run("helm history task-api --max 1 -o json | jq .[0].revision").strip()
    with live("rolling update, then `helm rollback`", graceful=True) as clients:
        clients.strike("rolling update")
        victim.run(f"helm upgrade task-api {CHART} {victim.values} --set podAnnotations.version=next --wait")
        settle(victim)
        clients.strike("rollback")
        victim.run(f"helm rollback task-api {before} --wait")
        settle(victim)


def test_pods_deleted_with_grace_fail_no_request(victim: Namespace, live: Live) -> None:
    with live("half of the pods deleted, with grace", graceful=True) as clients:
        half = pods(victim)[: REPLICAS // 2 + 1]
        clients.strike("delete")
        victim.run(f"kubectl delete pod {' '.join(half)} --wait=false")
        wait_until_gone(victim, half)
        settle(victim)


@pytest.mark.full
def test_pods_deleted_without_grace_lose_nothing(victim: Namespace, live: Live) -> None:
    with live("half of the pods deleted, without grace") as clients:
        half = pods(victim)[: REPLICAS // 2 + 1]
        clients.strike("delete --force")
        victim.run(f"kubectl delete pod {' '.join(half)} --grace-period=0 --force")
        settle(victim)


@pytest.mark.full
@pytest.mark.parametrize("force", [False, True], ids=["with-grace", "without-grace"])
def test_pods_deleted_again_and_again(victim: Namespace, live: Live, force: bool) -> None:
    how = "without" if force else "with"
    with live(f"half of the pods deleted, {how} grace, three times", graceful=not force) as clients:
        for _ in range(3):
            half = pods(victim)[: REPLICAS // 2 + 1]
            clients.strike("delete")
            victim.run(
                f"kubectl delete pod {' '.join(half)} " + ("--grace-period=0 --force" if force else "--wait=false")
            )
            wait_until_gone(victim, half)
            settle(victim)


@pytest.mark.full
def test_processes_killed_from_their_node_lose_nothing(victim: Namespace, live: Live) -> None:
    before = restarts(victim)
    with live("SIGKILL of each pod's process, one after the other") as clients:
        for pod in pods(victim):
            clients.strike(f"SIGKILL of {pod}")
            signal_pod(victim, pod, "KILL")
            wait_for_restart(victim, pod, before[pod])
            victim.wait_for_replicas(REPLICAS)


@pytest.mark.full
def test_a_process_that_stands_still_is_left_out_and_loses_nothing(victim: Namespace, live: Live) -> None:
    pod = pods(victim)[0]
    with live(f"SIGSTOP of one pod's process for {STOPPED_SECONDS} s") as clients:
        clients.strike("SIGSTOP")
        signal_pod(victim, pod, "STOP")
        began = clients.history.now()
        try:
            eventually(
                lambda: (
                    victim.run(f"kubectl get pod {pod} -o jsonpath='{{.status.containerStatuses[0].ready}}'") == "false"
                ),
                "the pod is not ready any more",
                seconds=40,
            )
            eventually(lambda: clients.history.now() - began > STOPPED_SECONDS, "the time is over", seconds=40)
        finally:
            signal_pod(victim, pod, "CONT")
        settle(victim)


@pytest.mark.full
def test_a_drained_node_fails_no_request(victim: Namespace, live: Live) -> None:
    nodes = victim.run("kubectl get pods -l app=task-api -o jsonpath='{.items[*].spec.nodeName}'").split()
    busiest, _ = Counter(nodes).most_common(1)[0]
    with live("node drained and brought back", graceful=True) as clients:
        clients.strike("drain")
        try:
            # The API alone: to move the bundled PostgreSQL is a fault of its own.
            victim.run(
                f"kubectl drain {busiest} --ignore-daemonsets --delete-emptydir-data --timeout=150s"
                f" --pod-selector=app=task-api,e2e={victim.name}"
            )
            settle(victim)
        finally:
            victim.run(f"kubectl uncordon {busiest}")


@pytest.mark.full
def test_a_deploy_that_cannot_work_is_cut_short_and_undone_without_a_failed_request(
    victim: Namespace, live: Live
) -> None:
    """The image is nowhere, and the deploy itself is killed while it waits."""
    before = victim.run("helm history task-api --max 1 -o json | jq .[0].revision").strip()
    with live("deploy of an image that is nowhere, killed, undone", graceful=True) as clients:
        clients.strike("deploy")
        killed = victim.attempt(
            f"timeout --signal=KILL 20 helm upgrade task-api {CHART} {victim.values} --set image.tag=nowhere --wait"
        )
        assert killed.returncode != 0
        assert "ErrImagePull" in (waiting := victim.run("kubectl get pods")) or "ImagePullBackOff" in waiting
        clients.strike("rollback")
        victim.run(f"helm rollback task-api {before} --wait")
        settle(victim)
