"""The image that was built and the cluster that `make up` made, as a client sees them."""

from __future__ import annotations

import base64
import os
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import kubernetes
import pytest

T = TypeVar("T")

REPOSITORY = Path(__file__).parent.parent
CONTEXT = "kind-task-platform"
NAMESPACE = "default"
HOST = "task-api.local"


def eventually(look: Callable[[], T | None], what: str, *, seconds: float = 120) -> T:
    """What `look` returns once it is neither None nor False; fails with `what` when that takes too long."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.5)


@pytest.fixture(scope="session")
def image() -> str:
    """The image under test: the one of this content, which `make up` deploys."""
    return os.environ["IMAGE"]


class Cluster:
    """The cluster of `make up`, through its own kubeconfig."""

    def __init__(self) -> None:
        client = kubernetes.config.new_client_from_config(str(REPOSITORY / ".kube/config"), context=CONTEXT)
        self.core = kubernetes.client.CoreV1Api(client)
        self.apps = kubernetes.client.AppsV1Api(client)
        self.autoscaling = kubernetes.client.AutoscalingV2Api(client)

    def ready_pods(self) -> list[Any]:
        """The API's pods that are ready and stay (V1Pod)."""
        pods = self.core.list_namespaced_pod(NAMESPACE, label_selector="app=task-api").items
        return [
            pod
            for pod in pods
            if pod.metadata.deletion_timestamp is None
            and any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])
        ]

    def certificate(self) -> str:
        """The certificate of the Secret task-api-tls, as PEM."""
        secret = self.core.read_namespaced_secret("task-api-tls", NAMESPACE)
        return base64.b64decode(secret.data["tls.crt"]).decode()


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture(scope="session")
def https_port() -> int:
    return int(os.environ["HTTPS_PORT"])


@pytest.fixture(scope="session")
def http_port() -> int:
    return int(os.environ["HTTP_PORT"])


@pytest.fixture(scope="session")
def trust(cluster: Cluster) -> ssl.SSLContext:
    """Trusts the cluster's certificate and no other, and checks the host's name."""
    return ssl.create_default_context(cadata=cluster.certificate())


@pytest.fixture
def api(trust: ssl.SSLContext, https_port: int) -> Iterator[httpx2.Client]:
    """A client of https://task-api.local, whose name need not resolve here."""
    with httpx2.Client(base_url=f"https://127.0.0.1:{https_port}", verify=trust, headers={"Host": HOST}) as client:
        client.event_hooks["request"].append(_name_the_host)
        yield client


def _name_the_host(request: httpx2.Request) -> None:
    request.extensions["sni_hostname"] = HOST
