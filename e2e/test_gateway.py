"""The release behind a Gateway instead of an Ingress, as in docs/extend.md."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from string import Template

import httpx2
import pytest
from e2e.cluster import REPOSITORY, client_of, version
from e2e.eventually import eventually
from e2e.example import EXAMPLE
from e2e.namespace import MakeNamespace, Namespace
from under_test import HAS_DATABASE, SERVICE

pytestmark = [pytest.mark.full, pytest.mark.usefixtures("gateway_api")]

LISTENERS = {"http": 8000, "https": 8443}


@pytest.fixture(scope="module")
def behind_a_gateway(make_namespace: MakeNamespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """One pod of the service at /below of a Gateway's host, without an Ingress."""
    namespace = make_namespace("e2e-gateway")
    image = version("TRAEFIK_IMAGE")
    namespace.run(f"docker image inspect {image} || docker pull {image}", seconds=300)
    namespace.run(f"kind load docker-image {image} --name task-platform", seconds=300)
    manifest = tmp_path_factory.mktemp("gateway") / "gateway.yaml"
    text = Template((REPOSITORY / "e2e/gateway.yaml").read_text())
    manifest.write_text(text.substitute(TRAEFIK_IMAGE=image, CERTIFICATE=f"{SERVICE}-tls"))
    try:
        namespace.run(f"kubectl apply --filename {manifest}")
        namespace.run("kubectl rollout status deployment/traefik --timeout=120s")
        in_memory = "--set database.inMemory=true" if HAS_DATABASE else ""
        namespace.run(
            f"helm install {SERVICE} ./platform/helm/{SERVICE} {namespace.values} {in_memory}"
            " --set replicaCount=1 --set autoscaling.enabled=false --set ingress.enabled=false"
            " --set ingress.path=/below --set httpRoute.enabled=true --set 'httpRoute.parentRefs[0].name=public'"
            " --set 'httpRoute.parentRefs[0].sectionName=https' --set 'httpRoute.redirectParentRefs[0].name=public'"
            " --set 'httpRoute.redirectParentRefs[0].sectionName=http'"
            " --set 'networkPolicy.ingressNamespaces={e2e-gateway}' --wait --timeout 120s"
        )
        yield namespace
    finally:
        namespace.run(f"kubectl delete --ignore-not-found --filename {manifest}")


@contextlib.contextmanager
def forwarded(namespace: Namespace, folder: Path, listener: str) -> Iterator[int]:
    """A local port that is forwarded to the Gateway's listener."""
    port = LISTENERS[listener]
    forward = namespace.start(f"kubectl port-forward deployment/traefik :{port}", folder / listener)
    try:
        eventually(lambda: "->" in (folder / listener).read_text(), "the port is forwarded")
        yield int((folder / listener).read_text().split(" ->")[0].rpartition(":")[2])
    finally:
        forward.terminate()
        forward.wait(timeout=10)


def is_accepted(namespace: Namespace, route: str) -> bool:
    """Whether the Gateway has accepted the route and resolved its backends."""
    status = json.loads(namespace.run(f"kubectl get httproute {route} --output jsonpath='{{.status}}'") or "{}")
    conditions = {c["type"]: c["status"] for parent in status.get("parents", []) for c in parent["conditions"]}
    return conditions == {"Accepted": "True", "ResolvedRefs": "True"}


def test_gateway_serves_the_release_with_tls_below_a_path(behind_a_gateway: Namespace, tmp_path: Path) -> None:
    for route in (SERVICE, f"{SERVICE}-redirect"):
        eventually(partial(is_accepted, behind_a_gateway, route), f"the Gateway accepts the route {route}")
    with (
        forwarded(behind_a_gateway, tmp_path, "https") as port,
        client_of(behind_a_gateway.host, behind_a_gateway.trust(), port) as client,
    ):
        client.base_url = client.base_url.join("/below/")
        path, content = EXAMPLE.write(client)
        assert client.get(path).json() == content
        assert client.get("/readyz").status_code == 200
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/below"}]


def test_gateway_redirects_http_to_https_on_the_same_host(behind_a_gateway: Namespace, tmp_path: Path) -> None:
    with forwarded(behind_a_gateway, tmp_path, "http") as port:
        response = httpx2.get(f"http://127.0.0.1:{port}/below/docs?page=1", headers={"Host": behind_a_gateway.host})
    assert response.status_code == 301
    assert response.headers["location"] == f"https://{behind_a_gateway.host}/below/docs?page=1"
