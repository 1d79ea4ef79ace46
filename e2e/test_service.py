"""The deployed service, through the ingress and in each pod."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Iterator

import httpx2
import pytest
from e2e.cluster import CONTEXT, HOST, NAMESPACE, REPOSITORY, Cluster
from e2e.eventually import eventually
from e2e.example import EXAMPLE
from under_test import SERVICE


def test_three_replicas_are_ready_on_more_than_one_node(cluster: Cluster) -> None:
    pods = eventually(lambda: pods if len(pods := cluster.ready_pods()) >= 3 else None, "three ready pods")
    assert len({pod.spec.node_name for pod in pods}) > 1
    # After a reboot of the machine the containers were restarted: that is not their fault.
    terminations = [status.last_state.terminated for pod in pods for status in pod.status.container_statuses]
    assert [
        termination for termination in terminations if termination is not None and termination.reason != "Unknown"
    ] == []


def test_autoscaler_reads_real_cpu_metrics(cluster: Cluster) -> None:
    def utilization() -> int | None:
        hpa = cluster.autoscaling.read_namespaced_horizontal_pod_autoscaler(SERVICE, NAMESPACE)
        for metric in hpa.status.current_metrics or []:
            if metric.resource is not None and metric.resource.current.average_utilization is not None:
                percent: int = metric.resource.current.average_utilization
                return percent
        return None

    eventually(utilization, "the HPA has CPU metrics", seconds=180)  # which may be 0 when idle
    hpa = cluster.autoscaling.read_namespaced_horizontal_pod_autoscaler(SERVICE, NAMESPACE)
    assert (hpa.spec.min_replicas, hpa.spec.max_replicas) == (3, 10)


def test_data_read_through_the_ingress_is_readable_in_every_pod(cluster: Cluster, api: httpx2.Client) -> None:
    path, content = EXAMPLE.write(api)
    pods = cluster.ready_pods()
    assert len(pods) >= 3
    for pod in pods:
        with pod_url(pod.metadata.name) as url:
            assert httpx2.get(f"{url}{path}").json() == content, pod.metadata.name


@contextlib.contextmanager
def pod_url(pod: str) -> Iterator[str]:
    """The pod's own URL, through its node's kubelet: a NetworkPolicy blocks the API server's proxy."""
    forward = ["kubectl", "--kubeconfig", str(REPOSITORY / ".kube/config"), "--context", CONTEXT, "port-forward"]
    with subprocess.Popen([*forward, f"pod/{pod}", ":8000"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://{process.stdout.readline().split()[2]}"  # Forwarding from 127.0.0.1:40123 -> 8000
        finally:
            process.terminate()


@pytest.mark.parametrize("host", [HOST, f"{SERVICE}.localhost"])
def test_http_is_redirected_to_https_on_the_same_host(http_port: int, host: str) -> None:
    response = httpx2.get(f"http://127.0.0.1:{http_port}/docs?page=1", headers={"Host": host})
    assert response.status_code == 308
    assert response.headers["location"] == f"https://{host}/docs?page=1"


@pytest.mark.parametrize("host", [HOST, f"{SERVICE}.localhost"])
def test_certificate_is_the_one_in_the_secret(
    cluster: Cluster, trust: ssl.SSLContext, https_port: int, host: str
) -> None:
    with (
        socket.create_connection(("127.0.0.1", https_port), timeout=10) as connection,
        trust.wrap_socket(connection, server_hostname=host) as tls,  # verifies the name against the certificate
    ):
        served = tls.getpeercert(binary_form=True)
    assert served == ssl.PEM_cert_to_DER_cert(cluster.certificate())


def test_pods_run_restricted(cluster: Cluster) -> None:
    pods = cluster.ready_pods()
    assert pods
    for pod in pods:
        assert pod.spec.security_context.run_as_user == 1000
        assert pod.spec.security_context.run_as_non_root is True
        for container in pod.spec.containers:
            context = container.security_context
            assert context.read_only_root_filesystem is True
            assert context.allow_privilege_escalation is False
            assert context.capabilities.drop == ["ALL"]
