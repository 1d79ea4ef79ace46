"""The release where pods have an IPv6 address alone, and where they have one of each family."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.cluster import REPOSITORY
from e2e.example import EXAMPLE
from under_test import SERVICE

ASK = "import sys, urllib.request as web; print(web.urlopen(f'http://{sys.argv[1]}/readyz', timeout=10).status)"


class OwnCluster:
    """A cluster of one node, whose pods have addresses of these families."""

    def __init__(self, families: str, kubeconfig: Path) -> None:
        self.name = f"task-platform-{families}"
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}

    def run(self, command: str, *, seconds: float = 300) -> str:
        """What a command says that has to succeed."""
        script = f". scripts/versions.sh\n{command}"  # the node's image is a variable of it
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=REPOSITORY,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}\n{self._look()}"
        return done.stdout

    def _look(self) -> str:
        pods = ["kubectl", "get", "pods", "--all-namespaces", "--output", "wide"]
        return subprocess.run(pods, env=self._environment, capture_output=True, text=True, timeout=30).stdout


@pytest.fixture(params=["ipv6", "dual"])
def own_cluster(request: pytest.FixtureRequest, image: str, tmp_path: Path) -> Iterator[OwnCluster]:
    cluster = OwnCluster(request.param, tmp_path / "kubeconfig")
    config = (
        f"{{kind: Cluster, apiVersion: kind.x-k8s.io/v1alpha4, name: {cluster.name},"
        f" networking: {{ipFamily: {request.param}}}}}"
    )
    try:
        cluster.run(f'kind create cluster --image "$KIND_NODE_IMAGE" --config - <<< "{config}"')
        cluster.run(f"kind load docker-image --name {cluster.name} {image}")
        yield cluster
    finally:
        cluster.run(f"kind delete cluster --name {cluster.name}")


@pytest.mark.full
def test_a_release_serves_on_every_address_of_its_pods(own_cluster: OwnCluster, image: str) -> None:
    repository, _, tag = image.rpartition(":")
    own_cluster.run(
        f"helm install {SERVICE} platform/helm/{SERVICE} --set image.repository={repository} --set image.tag={tag}"
        " --set ingress.enabled=false --wait --timeout 240s"
    )
    assert EXAMPLE.helm_test in own_cluster.run(f"helm test {SERVICE} --logs")
    pods = own_cluster.run(
        f"kubectl get pods --selector app={SERVICE}"
        ' --output jsonpath=\'{range .items[*]}{.metadata.name}{" "}{.status.podIPs[*].ip}{"\\n"}{end}\''
    ).splitlines()
    assert pods
    for pod in pods:
        name, *addresses = pod.split()
        assert any(":" in address for address in addresses)
        for address in addresses:
            host = f"[{address}]:8000" if ":" in address else f"{address}:8000"
            assert own_cluster.run(f'kubectl exec {name} -- python -c "{ASK}" "{host}"') == "200\n"
