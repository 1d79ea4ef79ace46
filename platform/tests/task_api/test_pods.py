"""What every pod is held to, however the chart is set: security, links, resources; and how the API's pods end."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from manifests import (
    CHART,
    CHARTS,
    Manifest,
    api_container,
    default_values,
    environment,
    one,
    pod_specs,
    raw,
    refusal,
    render,
    sets,
    values_files,
)

CLOSE_SECONDS = 1
"""How long the service may take to close its storage."""

DEPLOY_SECONDS = 120
"""`helm upgrade --wait --timeout 120s`"""


def every_pod() -> list[Any]:
    """Of the raw manifests and of each chart with each of its files of values, the pod of `helm test` included."""
    roads = {"k8s": raw()}
    roads |= {
        f"{chart.name}-{Path(name).stem}": render(*arguments, helm_tests=True, chart=chart)
        for chart in CHARTS
        for name, arguments in values_files(chart).items()
    }
    pods: dict[str, Manifest] = {}
    for road, manifests in roads.items():
        for pod in pod_specs(manifests):
            # A CronJob and the Job that is the first of its backups make the same pod.
            assert pods.setdefault(f"{road}-{pod['containers'][0]['name']}", pod) == pod
    return [pytest.param(pod, id=name) for name, pod in pods.items()]


PODS = every_pod()


def test_no_pod_is_overlooked() -> None:
    names = {str(parameter.id) for parameter in PODS}
    assert {
        "k8s-api",
        "k8s-postgres",
        "task-api-defaults-values-api",
        "task-api-defaults-values-postgres",
        "task-api-defaults-values-test",
        "task-api-backup-values-backup",
        "task-api-backup-s3-values-upload",
    } <= names


@pytest.mark.parametrize("pod", PODS)
def test_every_pod_passes_the_restricted_pod_security_standard(pod: Manifest) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"].get("runAsUser", 1) > 0  # or the cluster gives one
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "ephemeralContainers"} & pod.keys()
    for volume in pod["volumes"]:
        assert volume.keys() - {"name"} <= {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
    for container in pod["containers"] + pod.get("initContainers", []):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not context.keys() & {"privileged", "procMount", "runAsUser", "runAsNonRoot", "seccompProfile"}
        assert not any("hostPort" in port for port in container.get("ports", []))


def test_a_secret_in_a_volume_is_read_by_the_user_and_the_group_of_the_pod_alone() -> None:
    pods = [*(parameter.values[0] for parameter in PODS), *pod_specs(render(*sets("database.certificatesSecret=ours")))]
    secrets = [(volume["name"], volume["secret"]) for pod in pods for volume in pod["volumes"] if "secret" in volume]
    assert {name for name, _ in secrets} >= {"tokens", "database-certificates", "password"}
    assert [(name, oct(its["defaultMode"])) for name, its in secrets if its["defaultMode"] != 0o440] == []
    names = {name for name, _ in secrets}
    mounts = [mount for pod in pods for container in pod["containers"] for mount in container["volumeMounts"]]
    assert [mount for mount in mounts if mount["name"] in names and mount.get("readOnly") is not True] == []


@pytest.mark.parametrize("pod", PODS)
def test_every_pod_writes_to_its_volumes_alone_and_within_limits(pod: Manifest) -> None:
    for container in pod["containers"] + pod.get("initContainers", []):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        for kind in ("requests", "limits"):
            assert container["resources"][kind].keys() >= {"cpu", "memory", "ephemeral-storage"}
    assert all("sizeLimit" in volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume)


@pytest.mark.parametrize("pod", PODS)
def test_no_pod_gets_a_token_or_the_addresses_of_services(pod: Manifest) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False


def test_the_api_runs_as_the_user_of_its_image() -> None:
    context = one("Deployment", raw())["spec"]["template"]["spec"]["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (1000, 1000, 1000)


# --- how it starts and rolls out ------------------------------------------------------


def rollout_seconds(deployment: Manifest, replicas: int) -> int:
    """The formula of the chart's README."""
    spec = deployment["spec"]
    rolling = spec["strategy"]["rollingUpdate"]
    # Kubernetes rounds per cent of the first up and of the second down.
    surge, unavailable = (
        round_(replicas * int(rolling[key][:-1]) / 100) if isinstance(rolling[key], str) else rolling[key]
        for key, round_ in (("maxSurge", math.ceil), ("maxUnavailable", math.floor))
    )
    # As measured (e2e/test_chart.py prints it): longer periods of the start-up probe would add to it.
    until_ready = 5
    assert spec["template"]["spec"]["containers"][0]["startupProbe"]["periodSeconds"] == 1
    return math.ceil(replicas / (surge + unavailable)) * int(until_ready + spec["minReadySeconds"])


@pytest.mark.parametrize(
    ("replicas", "values"), [(3, ()), (10, ()), (10, ("rollingUpdate.maxSurge=25%", "database.maxConnections=120"))]
)
def test_a_rollout_fits_into_the_time_that_a_deploy_waits(replicas: int, values: tuple[str, ...]) -> None:
    seconds = rollout_seconds(one("Deployment", render(*sets(*values))), replicas)
    surge = "25%" if values else "1"
    row = f"| {replicas} | {surge} / 1 | "
    (documented,) = (line for line in (CHART / "README.md").read_text().splitlines() if line.startswith(row))
    assert re.findall(r"\d+", documented.removeprefix(row))[1:] == [str(seconds), str(DEPLOY_SECONDS - seconds)]
    assert seconds < DEPLOY_SECONDS - 45  # what is left for pulling the image and for slow nodes


def test_pods_have_five_minutes_to_start_and_each_probe_its_own_question() -> None:
    container = api_container(raw())
    startup, liveness, readiness = (container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness"))
    assert (startup["failureThreshold"], startup["periodSeconds"]) == (300, 1)
    assert startup["httpGet"] == liveness["httpGet"] == {"path": "/livez", "port": "http", "scheme": "HTTP"}
    assert readiness["httpGet"] == {"path": "/readyz", "port": "http", "scheme": "HTTP"}
    assert one("Deployment", raw())["spec"]["minReadySeconds"] <= 5


# --- how it ends ----------------------------------------------------------------------


@pytest.mark.parametrize("kubernetes", ["1.26.0", "1.29.3-gke.100", "1.30.0-eks-abc", "1.37.0"])
def test_pods_have_time_to_drain_before_they_are_killed(kubernetes: str) -> None:
    deployment = one("Deployment", render(kubernetes=kubernetes))
    pod = deployment["spec"]["template"]["spec"]
    settings = environment(pod["containers"][0])
    pre_stop = pod["containers"][0]["lifecycle"]["preStop"]
    slept = pre_stop["sleep"]["seconds"] if "sleep" in pre_stop else int(pre_stop["exec"]["command"][1])
    in_process = int(settings["TASKS_DRAIN_SECONDS"]) + int(settings["TASKS_GRACEFUL_SECONDS"]) + CLOSE_SECONDS
    assert (slept, in_process) == (5, 16)
    assert slept + in_process < pod["terminationGracePeriodSeconds"] == 30


@pytest.mark.parametrize(
    ("kubernetes", "form"),
    [("1.26.0", "exec"), ("1.29.3-gke.100", "exec"), ("1.30.0-eks-abc", "sleep"), ("1.37.0", "sleep")],
)
def test_the_kubelet_sleeps_itself_where_it_can(kubernetes: str, form: str) -> None:
    assert list(api_container(render(kubernetes=kubernetes))["lifecycle"]["preStop"]) == [form]


def test_times_that_do_not_add_up_are_refused() -> None:
    assert "drainSeconds 5 + gracefulSeconds 19 + 1 to close the storage backend = 30 s, which is not below" in refusal(
        *sets("shutdown.gracefulSeconds=19")
    )
    render(*sets("shutdown.gracefulSeconds=18"))


# --- how many connections -------------------------------------------------------------


def connections(manifests: list[Manifest], values: Manifest) -> int:
    surge = one("Deployment", manifests)["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    pods = one("HorizontalPodAutoscaler", manifests)["spec"]["maxReplicas"]
    pool = int(environment(api_container(manifests))["TASKS_DATABASE_POOL_SIZE"])
    return int((pods + surge) * pool + values["database"]["reservedConnections"])


def test_all_pods_together_leave_the_database_connections() -> None:
    values = default_values()
    used = connections(raw(), values)
    database = one("StatefulSet", raw())["spec"]["template"]["spec"]["containers"][0]
    assert database["args"] == ["postgres", "-c", "max_connections=100"]
    assert used == 95
    assert used < 100
    assert "(10 + 1) x 5 + 40 = 95 < 100" in (CHART / "README.md").read_text()


def test_the_reserve_covers_pods_that_still_end_while_others_start() -> None:
    deployment = one("Deployment", raw())
    rolling = deployment["spec"]["strategy"]["rollingUpdate"]
    wave_pods = rolling["maxSurge"] + rolling["maxUnavailable"]
    wave_seconds = rollout_seconds(deployment, wave_pods)
    settings = environment(api_container(raw()))
    end_seconds = 5 + int(settings["TASKS_DRAIN_SECONDS"]) + int(settings["TASKS_GRACEFUL_SECONDS"]) + CLOSE_SECONDS
    ending = math.ceil(end_seconds / wave_seconds) * wave_pods * int(settings["TASKS_DATABASE_POOL_SIZE"])
    assert (wave_seconds, end_seconds, ending) == (8, 21, 30)
    assert default_values()["database"]["reservedConnections"] == ending + 10


@pytest.mark.parametrize(
    ("values", "sum_"),
    [
        (("autoscaling.maxReplicas=13",), "14 pods (the maximum, including maxSurge) x database.poolSize 5 + "),
        (("database.poolSize=7",), "= 117 connections"),
        (("rollingUpdate.maxSurge=31%",), "14 pods"),  # 3.1 of 10 pods are 4, as Kubernetes counts
        (("database.maxConnections=95",), "not below database.maxConnections 95"),
        (("autoscaling.enabled=false", "replicaCount=13"), "14 pods"),
        (("database.existingSecret=mine", "database.poolSize=7"), "= 117 connections"),
    ],
)
def test_more_connections_than_the_database_has_are_refused(values: tuple[str, ...], sum_: str) -> None:
    said = refusal(*sets(*values))
    assert sum_ in said
    assert "Lower autoscaling.maxReplicas or database.poolSize, or raise" in said


def test_a_bigger_database_lets_in_more_pods() -> None:
    rendered = render(*sets("autoscaling.maxReplicas=50", "database.maxConnections=300"))
    database = one("StatefulSet", rendered)["spec"]["template"]["spec"]["containers"][0]
    assert database["args"][-1] == "max_connections=300"
