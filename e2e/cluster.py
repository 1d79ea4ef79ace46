"""The cluster that `make up` made: its names, its API, and a client of what it serves."""

from __future__ import annotations

import base64
import shlex
import ssl
import subprocess
from typing import Any

import httpx2
import kubernetes
from under_test import REPOSITORY as REPOSITORY
from under_test import SERVICE

CONTEXT = "kind-task-platform"
NAMESPACE = "default"
HOST = f"{SERVICE}.local"


class Cluster:
    """The cluster of `make up`, through its own kubeconfig."""

    def __init__(self) -> None:
        client = kubernetes.config.new_client_from_config(str(REPOSITORY / ".kube/config"), context=CONTEXT)
        self.core = kubernetes.client.CoreV1Api(client)
        self.apps = kubernetes.client.AppsV1Api(client)
        self.autoscaling = kubernetes.client.AutoscalingV2Api(client)

    def ready_pods(self) -> list[Any]:
        """The API's pods that are ready and stay (V1Pod)."""
        pods = self.core.list_namespaced_pod(NAMESPACE, label_selector=f"app={SERVICE}").items
        return [
            pod
            for pod in pods
            if pod.metadata.deletion_timestamp is None
            and any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])
        ]

    def certificate(self) -> str:
        """The certificate of the service's Secret, as PEM."""
        secret = self.core.read_namespaced_secret(f"{SERVICE}-tls", NAMESPACE)
        return base64.b64decode(secret.data["tls.crt"]).decode()


def kubectl(*arguments: str, given: str | None = None) -> str:
    """What kubectl says of the cluster; it has to succeed."""
    command = ["kubectl", "--kubeconfig", str(REPOSITORY / ".kube/config"), "--context", CONTEXT, *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def version(variable: str) -> str:
    """What the environment says of a variable of versions.env, or that file."""
    script = f". scripts/versions.sh && echo ${variable}"
    return subprocess.run(
        ["bash", "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.strip()


def create_namespace(name: str) -> None:
    """An empty one, whatever a run that was killed left under its name."""
    kubectl("delete", "namespace", name, "--ignore-not-found")
    kubectl("create", "namespace", name)


def client_of(host: str, trust: ssl.SSLContext, https_port: int) -> httpx2.Client:
    """A client of https://HOST, whose name need not resolve here."""

    def name_the_host(request: httpx2.Request) -> None:
        request.extensions["sni_hostname"] = host

    client = httpx2.Client(base_url=f"https://127.0.0.1:{https_port}", verify=trust, headers={"Host": host}, timeout=10)
    client.event_hooks["request"].append(name_the_host)
    return client
