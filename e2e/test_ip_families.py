"""The release in an IPv6-only and in a dual-stack cluster."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from e2e.cluster import version
from e2e.eventually import eventually
from e2e.example import EXAMPLE
from e2e.namespace import Namespace
from under_test import SERVICE

GET_HEALTH = "import sys, urllib.request as web; print(web.urlopen(f'http://{sys.argv[1]}/readyz', timeout=10).status)"


@pytest.fixture(params=["ipv6", "dual"])
def installed(request: pytest.FixtureRequest, image: str, tmp_path: Path) -> Iterator[Namespace]:
    """The chart in a single-node cluster whose pods have addresses of these families."""
    name = f"task-platform-{request.param}"
    config = f"{{kind: Cluster, apiVersion: kind.x-k8s.io/v1alpha4, networking: {{ipFamily: {request.param}}}}}"
    namespace = Namespace("default", tmp_path / "kubeconfig", image, https_port=0)
    try:
        create = f"kind create cluster --name {name} --image {version('KIND_NODE_IMAGE')} --config -"
        namespace.run(f'{create} <<< "{config}"', seconds=300)
        namespace.run(f"kind load docker-image {image} --name {name}", seconds=300)
        namespace.run(f"kubectl apply --filename {version('INGRESS_NGINX_MANIFEST')}")
        controller = "--namespace ingress-nginx deployment/ingress-nginx-controller --timeout 180s"
        namespace.run(f"kubectl rollout status {controller}", seconds=200)
        namespace.run(
            f"helm install {SERVICE} ./platform/helm/{SERVICE} {namespace.values} --wait --timeout 240s", seconds=300
        )
        yield namespace
    finally:
        namespace.run(f"kind delete cluster --name {name}")


@pytest.mark.full
def test_release_serves_on_every_address_of_its_pods_and_its_ingress(installed: Namespace) -> None:
    assert EXAMPLE.helm_test in installed.run(f"helm test {SERVICE} --logs")
    pods = installed.run(
        f"kubectl get pods --selector app={SERVICE}"
        ' --output jsonpath=\'{range .items[*]}{.metadata.name}{" "}{.status.podIPs[*].ip}{"\\n"}{end}\''
    ).splitlines()
    assert pods
    for pod in pods:
        name, *addresses = pod.split()
        assert any(":" in address for address in addresses)
        for address in addresses:
            host = f"[{address}]:8000" if ":" in address else f"{address}:8000"
            assert installed.run(f'kubectl exec {name} -- python -c "{GET_HEALTH}" "{host}"') == "200\n"

    listed = installed.run("kubectl get nodes --output jsonpath='{.items[0].status.addresses[*].address}'").split()
    (node,) = [name for name in listed if name.endswith("-control-plane")]
    outside = [address for address in listed if address != node]
    assert any(":" in address for address in outside)

    def serves(command: str) -> bool:
        return '"status":"ok"' in installed.attempt(f"docker exec {node} {command}").stdout

    for address in outside:
        peer = f"[{address}]" if ":" in address else address
        command = f"curl --silent --insecure --max-time 10 --connect-to ::{peer}:443 https://{installed.host}/health"
        eventually(partial(serves, command), f"the ingress serves at {address}: {command}")
