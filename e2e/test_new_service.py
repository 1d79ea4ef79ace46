"""`make new-service`: a service of each kind is made in a copy, deployed beside the first, and removed."""

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
"""Those of the page, and what they are called here: not like one that the repository may have already."""
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
    """All that is in the namespace of the new services', but for what ends by itself."""
    kinds = "deployments,statefulsets,services,ingresses,hpa,pdb,networkpolicies,serviceaccounts,secrets,configmaps,pvc"
    found = kubectl("get", kinds, "--output", "name").split()
    return [name for name in found if any(service in name for service in NAMES.values())]


def tag(copy: Path, name: str) -> str:
    """What the image of a service is called by its content."""
    return run(copy, "scripts/image-tag.sh", service=name).strip()


def remove_images(registry: str, name: str, tag: str) -> None:
    """registry: what its name begins with in the cluster, up to the last slash; empty where there is none."""
    there = f"{registry}{name}:{tag}"
    remove = [["docker", "image", "rm", "--force", there, f"{name}:{tag}"]]
    nodes = run(REPOSITORY, "kind", "get", "nodes", "--name", "task-platform").split()
    remove += [["docker", "exec", node, "crictl", "rmi", there] for node in nodes]
    for command in remove:
        subprocess.run(command, capture_output=True, check=False)  # there is none where `make up` failed


@pytest.fixture(scope="module")
def registry(image: str) -> str:
    return image[: image.rfind("/") + 1]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, registry: str) -> Iterator[Path]:
    """A copy of the repository with both services, deployed by `make up`; with all that it made gone in the end."""
    copy = copy_repository(tmp_path_factory.mktemp("copy"))
    lend_environments(copy)
    (documented,) = commands_run_by("e2e/test_new_service.py", "docs/extend.md")
    said = run(copy, "bash", "-euc", re.sub(r"NAME=(\S+)", lambda name: f"NAME={NAMES[name[1]]}", documented.commands))
    assert all(f"helm uninstall {name}" in said for name in NAMES.values())
    tags = {name: tag(copy, name) for name in NAMES.values()}
    try:
        run(copy, "make", "up")
        yield copy
    finally:
        for name, its in tags.items():
            run(copy, "helm", "uninstall", name, "--kube-context", CONTEXT, "--ignore-not-found", "--wait")
            kubectl("delete", "pod", f"{name}-test", "--ignore-not-found")
            kubectl("delete", "secret", f"{name}-tls", f"{name}-database", "--ignore-not-found")
            kubectl("delete", "pvc", f"data-{name}-postgres-0", "--ignore-not-found")
            remove_images(registry, name, its)
            remove_images("", name, "latest")
    assert objects() == []


@contextmanager
def client(name: str, https_port: int) -> Iterator[httpx2.Client]:
    """One that trusts the certificate that `make up` made for the service."""
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
    with client(PLAIN, https_port) as orders:
        assert orders.get("/v1/hello?name=Ada").json() == {"message": "Hello, Ada!"}
        assert orders.get("/v1/notes").status_code == 404
        assert orders.get("/v1/tasks").status_code == 404
    with client(NOTES, https_port) as notes:
        assert notes.get("/v1/notes").json() == []
        assert notes.get("/v1/hello").status_code == 404
        assert notes.get("/health").json()["storage"] == "postgresql"
    assert f"{PLAIN}-database" not in kubectl("get", "secrets", "--output", "name")
    # The first one goes on as it was.
    assert sorted(pod.metadata.uid for pod in cluster.ready_pods()) == pods
    assert api.get("/health").json()["status"] == "ok"
    assert api.get("/openapi.json").json()["info"]["title"] not in ("E2e Orders API", "E2e Notes API")


@pytest.mark.full
@pytest.mark.parametrize("name", [PLAIN, NOTES])
def test_it_has_what_every_service_has(deployed: Path, https_port: int, name: str) -> None:
    eventually(lambda: field("deployment", name, ".status.readyReplicas") == "3", "three ready pods")
    container = ".spec.template.spec.containers[0]"
    probes = [
        field("deployment", name, f"{container}.{probe}Probe.httpGet.path") for probe in ("liveness", "readiness")
    ]
    assert probes == ["/livez", "/readyz"]
    used = ".status.currentMetrics[0].resource.current.averageUtilization"
    eventually(lambda: field("hpa", name, used), "the HPA has a CPU figure", seconds=180)
    with client(name, https_port) as opened:
        assert opened.get("/docs").status_code == 200
        assert opened.get("/health").json()["revision"] == tag(deployed, name)
        assert f"{name.replace('-', '_')}_build_info{{" in opened.get("/metrics").text
    said = run(deployed, "helm", "test", name, "--kube-context", CONTEXT, "--logs")
    assert "ok: the API responds, and only authorized callers may read its metrics" in said


@pytest.mark.full
@pytest.mark.usefixtures("deployed")
def test_a_note_is_read_again_after_the_pods_of_service_and_database_are_gone(https_port: int) -> None:
    with client(NOTES, https_port) as notes:
        written = notes.post("/v1/notes", json={"text": "Milk"})
        assert written.status_code == 201
        path = f"/v1/notes/{written.json()['id']}"
        kubectl("delete", "pods", "--selector", f"app.kubernetes.io/instance={NOTES}", "--wait")

        def reads() -> bool:
            answer = notes.get(path)
            return answer.status_code == 200 and answer.json() == written.json()

        eventually(reads, "the note is read again")
    eventually(lambda: field("deployment", NOTES, ".status.readyReplicas") == "3", "three ready pods")


@pytest.mark.full
def test_a_changed_line_of_the_chassis_is_served_by_both(deployed: Path, https_port: int, registry: str) -> None:
    module = deployed / "packages/chassis/src/chassis/health.py"
    before = module.read_text()
    changed = before.replace('return "ok"', 'return "changed"')
    assert changed != before
    module.write_text(changed)
    tags = {name: tag(deployed, name) for name in (SERVICE, *NAMES.values())}
    try:
        run(deployed, "make", "up")
        for name in NAMES.values():
            with client(name, https_port) as opened:

                def served(opened: httpx2.Client = opened) -> bool:
                    return opened.get("/livez").text == "changed"

                eventually(served, f"{name} serves the changed line")
    finally:
        module.write_text(before)
        run(deployed, "make", "up")  # the first service is the other tests'
        for name, its in tags.items():
            remove_images(registry, name, its)
