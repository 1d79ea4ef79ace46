"""`make new-service`: a second service is made in a copy of the repository, deployed beside the first, and removed."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from documentation import commands_run_by
from e2e.cluster import CONTEXT, REPOSITORY, Cluster, client_of, kubectl
from e2e.eventually import eventually
from repository_copy import copy_repository, lend_environments

NAME = "e2e-orders"
"""Not one that the repository may have already."""


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "KUBECONFIG": str(REPOSITORY / ".kube/config"), "SERVICE": NAME},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def objects() -> list[str]:
    """All that is in the namespace of the new service's, but for what ends by itself."""
    kinds = "deployments,statefulsets,services,ingresses,hpa,pdb,networkpolicies,serviceaccounts,secrets,configmaps,pvc"
    return [name for name in kubectl("get", kinds, "--output", "name").split() if NAME in name]


@pytest.fixture
def deployed(tmp_path: Path, image: str) -> Iterator[Path]:
    """A copy of the repository with a second service, deployed by `make up`; with all that it made gone in the end."""
    copy = copy_repository(tmp_path)
    lend_environments(copy)
    (documented,) = commands_run_by("e2e/test_new_service.py", "docs/extend.md")
    said = run(copy, "bash", "-euc", documented.commands.replace("NAME=orders", f"NAME={NAME}"))
    assert f"helm uninstall {NAME}" in said
    tag = run(copy, "scripts/image-tag.sh").strip()
    try:
        run(copy, "make", "up")
        yield copy
    finally:
        run(copy, "helm", "uninstall", NAME, "--kube-context", CONTEXT, "--ignore-not-found", "--wait")
        kubectl("delete", "pod", f"{NAME}-test", "--ignore-not-found")
        kubectl("delete", "secret", f"{NAME}-tls", "--ignore-not-found")
        there = f"{image.rpartition('task-api:')[0]}{NAME}:{tag}"  # with the registry's name, where there is one
        remove = [["docker", "image", "rm", "--force", there, f"{NAME}:{tag}", f"{NAME}:latest"]]
        nodes = run(REPOSITORY, "kind", "get", "nodes", "--name", "task-platform").split()
        remove += [["docker", "exec", node, "crictl", "rmi", there] for node in nodes]
        for command in remove:
            subprocess.run(command, capture_output=True, check=False)  # there is none where `make up` failed
    assert objects() == []


@pytest.mark.full
def test_a_second_service_is_served_beside_the_first(
    deployed: Path, cluster: Cluster, api: httpx2.Client, https_port: int
) -> None:
    pods = sorted(pod.metadata.uid for pod in cluster.ready_pods())
    tag = run(deployed, "scripts/image-tag.sh").strip()
    certificate = json.loads(kubectl("get", "secret", f"{NAME}-tls", "--output", "json"))["data"]["tls.crt"]
    trust = ssl.create_default_context(cadata=base64.b64decode(certificate).decode())
    with client_of(f"{NAME}.local", trust, https_port) as orders:
        assert orders.get("/v1/hello?name=Ada").json() == {"message": "Hello, Ada!"}
        assert orders.get("/health").json()["revision"] == tag
        assert orders.get("/docs").status_code == 200
        assert orders.get("/v1/tasks").status_code == 404
    ready = "jsonpath={.status.readyReplicas}"
    eventually(lambda: kubectl("get", "deployment", NAME, "--output", ready) == "3", "three ready pods")
    assert f"{NAME}-database" not in kubectl("get", "secrets", "--output", "name")
    said = run(deployed, "helm", "test", NAME, "--kube-context", CONTEXT, "--logs")
    assert "ok: it answers, and shows its metrics only to those who may see them" in said
    # The first one goes on as it was.
    assert sorted(pod.metadata.uid for pod in cluster.ready_pods()) == pods
    assert api.get("/health").json()["status"] == "ok"
    assert api.get("/v1/hello").status_code == 404
