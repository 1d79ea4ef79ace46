"""The cluster of `make up`: its names, its API, and a client of its services."""

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
    """The cluster of `make up`, through the kit's kubeconfig."""

    def __init__(self) -> None:
        client = kubernetes.config.new_client_from_config(str(REPOSITORY / ".kube/config"), context=CONTEXT)
        self.core = kubernetes.client.CoreV1Api(client)
        self.apps = kubernetes.client.AppsV1Api(client)
        self.autoscaling = kubernetes.client.AutoscalingV2Api(client)

    def ready_pods(self) -> list[Any]:
        """The API's ready pods that are not terminating (V1Pod)."""
        pods = self.core.list_namespaced_pod(NAMESPACE, label_selector=f"app={SERVICE}").items
        return [
            pod
            for pod in pods
            if pod.metadata.deletion_timestamp is None
            and any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])
        ]

    def certificate(self) -> str:
        """The certificate in the service's Secret, as PEM."""
        secret = self.core.read_namespaced_secret(f"{SERVICE}-tls", NAMESPACE)
        return base64.b64decode(secret.data["tls.crt"]).decode()


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """kubectl's output; the command must succeed."""
    command = ["kubectl", "--kubeconfig", str(REPOSITORY / ".kube/config"), "--context", CONTEXT, *arguments]
    result = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{shlex.join(command)}\n{result.stdout}{result.stderr}"
    return result.stdout


def version(variable: str) -> str:
    """A variable of versions.env; the environment takes precedence."""
    script = f". scripts/versions.sh && echo ${variable}"
    return subprocess.run(
        ["bash", "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.strip()


def create_namespace(name: str) -> None:
    """Creates an empty namespace, deleting any leftover of a killed run."""
    kubectl("delete", "namespace", name, "--ignore-not-found")
    kubectl("create", "namespace", name)


def client_of(host: str, trust: ssl.SSLContext, https_port: int) -> httpx2.Client:
    """A client of https://HOST, which need not be resolvable here."""

    def set_sni_hostname(request: httpx2.Request) -> None:
        request.extensions["sni_hostname"] = host

    client = httpx2.Client(base_url=f"https://127.0.0.1:{https_port}", verify=trust, headers={"Host": host}, timeout=10)
    client.event_hooks["request"].append(set_sni_hostname)
    return client
