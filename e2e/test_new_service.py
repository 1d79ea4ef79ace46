"""`make new-service`: a service of each kind is created in a copy, deployed beside the first, and removed."""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from documentation import commands_run_by
from e2e.cluster import CONTEXT, REPOSITORY, Cluster, client_of, kubectl
from e2e.eventually import eventually
from repository_copy import copy_repository, lend_environments
from under_test import SERVICE

NAMES = {"orders": "e2e-orders", "order-notes": "e2e-notes"}
"""The page's names, and those used here: the repository may already have a service with one of the page's names."""
PLAIN, NOTES = NAMES.values()


def run(folder: Path, *command: str, service: str = PLAIN) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "KUBECONFIG": str(REPOSITORY / ".kube/config"), "SERVICE": service},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def objects() -> list[str]:
    """All objects in the new services' namespace, except for those that terminate on their own."""
    kinds = "deployments,statefulsets,services,ingresses,hpa,pdb,networkpolicies,serviceaccounts,secrets,configmaps,pvc"
    names = kubectl("get", kinds, "--output", "name").split()
    return [name for name in names if any(service in name for service in NAMES.values())]


def tag(copy: Path, name: str) -> str:
    """The content tag of a service's image."""
    return run(copy, "scripts/image-tag.sh", service=name).strip()


def remove_images(registry: str, name: str, tag: str) -> None:
    """registry: the prefix of its name in the cluster, up to the last slash; or empty."""
    image = f"{registry}{name}:{tag}"
    remove = [["docker", "image", "rm", "--force", image, f"{name}:{tag}"]]
    nodes = run(REPOSITORY, "kind", "get", "nodes", "--name", "task-platform").split()
    remove += [["docker", "exec", node, "crictl", "rmi", image] for node in nodes]
    for command in remove:
        subprocess.run(command, capture_output=True, check=False)  # it is missing if `make up` failed


@pytest.fixture(scope="module")
def registry(image: str) -> str:
    return image[: image.rfind("/") + 1]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, registry: str) -> Iterator[Path]:
    """A copy of the repository with both services, deployed by `make up`; everything is removed at the end."""
    copy = copy_repository(tmp_path_factory.mktemp("copy"))
    lend_environments(copy)
    (documented,) = commands_run_by("e2e/test_new_service.py", "docs/extend.md")
    output = run(
        copy, "bash", "-euc", re.sub(r"NAME=(\S+)", lambda name: f"NAME={NAMES[name[1]]}", documented.commands)
    )
    assert all(f"helm uninstall {name}" in output for name in NAMES.values())
    tags = {name: tag(copy, name) for name in NAMES.values()}
    try:
        run(copy, "make", "up")
        yield copy
    finally:
        for name, tag_ in tags.items():
            run(copy, "helm", "uninstall", name, "--kube-context", CONTEXT, "--ignore-not-found", "--wait")
            kubectl("delete", "pod", f"{name}-test", "--ignore-not-found")
            kubectl("delete", "secret", f"{name}-tls", f"{name}-database", "--ignore-not-found")
            kubectl("delete", "pvc", f"data-{name}-postgres-0", "--ignore-not-found")
            remove_images(registry, name, tag_)
            remove_images("", name, "latest")
    assert objects() == []


@contextmanager
def client(name: str, https_port: int) -> Iterator[httpx2.Client]:
    """A client that trusts the certificate that `make up` created for the service."""
    certificate = json.loads(kubectl("get", "secret", f"{name}-tls", "--output", "json"))["data"]["tls.crt"]
    trust = ssl.create_default_context(cadata=base64.b64decode(certificate).decode())
    with client_of(f"{name}.local", trust, https_port) as opened:
        yield opened


def field(kind: str, name: str, path: str) -> str:
    return kubectl("get", kind, name, "--output", f"jsonpath={{{path}}}")


@pytest.mark.full
@pytest.mark.usefixtures("deployed")
def test_services_of_both_kinds_are_served_beside_the_first(
    cluster: Cluster, api: httpx2.Client, https_port: int
) -> None:
    pods = sorted(pod.metadata.uid for pod in cluster.ready_pods())
    with client(PLAIN, https_port) as plain:
        assert plain.get("/v1/hello?name=Ada").json() == {"message": "Hello, Ada!"}
        assert plain.get("/v1/notes").status_code == 404
        assert plain.get("/v1/tasks").status_code == 404
    with client(NOTES, https_port) as notes:
        assert notes.get("/v1/notes").json() == []
        assert notes.get("/v1/hello").status_code == 404
        assert notes.get("/health").json()["storage"] == "postgresql"
    assert f"{PLAIN}-database" not in kubectl("get", "secrets", "--output", "name")
    # The first service is unaffected.
    assert sorted(pod.metadata.uid for pod in cluster.ready_pods()) == pods
    assert api.get("/health").json()["status"] == "ok"
    assert api.get("/openapi.json").json()["info"]["title"] not in ("E2e Orders API", "E2e Notes API")


@pytest.mark.full
@pytest.mark.parametrize("name", [PLAIN, NOTES])
def test_new_service_has_all_standard_features(deployed: Path, https_port: int, name: str) -> None:
    eventually(lambda: field("deployment", name, ".status.readyReplicas") == "3", "three ready pods")
    container = ".spec.template.spec.containers[0]"
    probes = [
        field("deployment", name, f"{container}.{probe}Probe.httpGet.path") for probe in ("liveness", "readiness")
    ]
    assert probes == ["/livez", "/readyz"]
    utilization = ".status.currentMetrics[0].resource.current.averageUtilization"
    eventually(lambda: field("hpa", name, utilization), "the HPA has CPU metrics", seconds=180)
    with client(name, https_port) as http:
        assert http.get("/docs").status_code == 200
        assert http.get("/health").json()["revision"] == tag(deployed, name)
        assert f"{name.replace('-', '_')}_build_info{{" in http.get("/metrics").text
    output = run(deployed, "helm", "test", name, "--kube-context", CONTEXT, "--logs")
    assert "ok: the API responds, and only authorized callers may read its metrics" in output


@pytest.mark.full
@pytest.mark.usefixtures("deployed")
def test_note_survives_the_loss_of_the_service_and_database_pods(https_port: int) -> None:
    with client(NOTES, https_port) as notes:
        written = notes.post("/v1/notes", json={"text": "Milk"})
        assert written.status_code == 201
        path = f"/v1/notes/{written.json()['id']}"
        kubectl("delete", "pods", "--selector", f"app.kubernetes.io/instance={NOTES}", "--wait")

        def is_readable() -> bool:
            response = notes.get(path)
            return response.status_code == 200 and response.json() == written.json()

        eventually(is_readable, "the note is readable again")
    eventually(lambda: field("deployment", NOTES, ".status.readyReplicas") == "3", "three ready pods")


@pytest.mark.full
def test_changed_line_of_the_chassis_is_served_by_both(deployed: Path, https_port: int, registry: str) -> None:
    module = deployed / "packages/chassis/src/chassis/health.py"
    before = module.read_text()
    changed = before.replace('return "ok"', 'return "changed"')
    assert changed != before
    module.write_text(changed)
    tags = {name: tag(deployed, name) for name in (SERVICE, *NAMES.values())}
    try:
        run(deployed, "make", "up")
        for name in NAMES.values():
            with client(name, https_port) as http:

                def served(http: httpx2.Client = http) -> bool:
                    return http.get("/livez").text == "changed"

                eventually(served, f"{name} serves the changed line")
    finally:
        module.write_text(before)
        run(deployed, "make", "up")  # other tests use the first service
        for name, tag_ in tags.items():
            remove_images(registry, name, tag_)
