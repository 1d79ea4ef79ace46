"""`make up` with and without changes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from e2e.cluster import CONTEXT, NAMESPACE, REPOSITORY, Cluster, kubectl
from e2e.eventually import eventually
from e2e.example import EXAMPLE
from e2e.namespace import HELMS, path_with_helm
from repository_copy import copy_repository
from tilt import Tilt
from under_test import HAS_DATABASE, PACKAGE, SERVICE


def run(*command: str, folder: Path = REPOSITORY) -> str:
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def make_up(repository: Path, *settings: str) -> None:
    run("make", "up", *settings, folder=repository)


def content_tag(repository: Path) -> str:
    done = subprocess.run(["scripts/image-tag.sh"], cwd=repository, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def wait_for_the_ingress(api: httpx2.Client) -> None:
    """Pods of the local cluster do not drain (values-dev.yaml): after a rollout, some requests are still routed to pods
    that have ended."""
    eventually(
        lambda: all(api.get("/health").status_code == 200 for _ in range(20)), "the ingress routes to running pods only"
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The repository, to be changed by a test; the cluster is shared."""
    return copy_repository(tmp_path)


@pytest.fixture
def changed_copy(copy: Path) -> Iterator[Path]:
    """The copy with an added line; afterwards the repository's own content is deployed again."""
    with (copy / f"services/{SERVICE}/src/{PACKAGE}/__init__.py").open("a") as module:
        module.write("\n# A line more.\n")
    yield copy
    make_up(REPOSITORY)


def test_unchanged_tree_changes_nothing(cluster: Cluster, copy: Path) -> None:
    def state() -> tuple[object, ...]:
        deployment = cluster.apps.read_namespaced_deployment(SERVICE, NAMESPACE)
        databases = cluster.apps.list_namespaced_stateful_set(
            NAMESPACE, label_selector=f"app.kubernetes.io/instance={SERVICE}"
        )
        generations = [database.metadata.generation for database in databases.items]
        assert len(generations) == HAS_DATABASE
        pods = sorted(pod.metadata.uid for pod in cluster.ready_pods())
        return deployment.metadata.generation, generations, pods

    eventually(lambda: len(cluster.ready_pods()) == 3, "three ready pods")
    before = state()
    assert content_tag(copy) == content_tag(REPOSITORY)  # another folder and no commit, but the same content
    make_up(copy)
    assert state() == before


@pytest.mark.full  # two minutes including the restoration; test_deploy.py also rolls out a new image
def test_changed_line_rolls_out(cluster: Cluster, changed_copy: Path, api: httpx2.Client, image: str) -> None:
    wait_for_the_ingress(api)
    path, content = EXAMPLE.write(api)
    changed = content_tag(changed_copy)
    assert changed != content_tag(REPOSITORY)
    make_up(changed_copy)
    eventually(lambda: api.get("/health").json()["revision"] == changed, f"the ingress routes to {changed}")
    images = {pod.spec.containers[0].image for pod in cluster.ready_pods()}
    repository = image.rpartition(":")[0]
    assert images == {f"{repository}:{changed}"}
    assert api.get(path).json() == content


@pytest.mark.full
@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("released", [True, False], ids=["after make up", "before the first make up"])
def test_make_up_after_make_dev(
    released: bool, helm: str, api: httpx2.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Applies what Tilt would, according to its model: its image does not exist, so the previous pods keep running."""
    monkeypatch.setenv("PATH", path_with_helm(helm, tmp_path))
    wait_for_the_ingress(api)
    path, content = EXAMPLE.write(api)
    before = api_container()
    if not released:  # the objects as Tilt applies them, without a trace of Helm
        kubectl("delete", "secret", "--selector", f"owner=helm,name={SERVICE}")
        objects = ("deployment", "statefulset", "service", "ingress", "hpa", "pdb", "networkpolicy", "serviceaccount")
        annotations = ("meta.helm.sh/release-name-", "meta.helm.sh/release-namespace-")
        kubectl("annotate", ",".join(objects), "--selector", f"app.kubernetes.io/instance={SERVICE}", *annotations)
    environment = {name: os.environ[name] for name in ("KIND_NODE_IMAGE",) if name in os.environ}
    tilt = Tilt(REPOSITORY, CONTEXT, settings={"services": [SERVICE]}, environment=environment).read()
    kubectl("apply", "--field-manager=tilt", "--filename", "-", stdin=yaml.safe_dump_all(tilt.applied))
    assert api_container()["resources"]["limits"]["cpu"] == "64"
    make_up(REPOSITORY)
    assert api_container() == before
    log = (REPOSITORY / ".kube/log/release.log").read_text()
    assert (f"reverted: HorizontalPodAutoscaler {SERVICE} .spec.minReplicas (tilt)\n" in log) == released
    # The single pod of `make dev` terminates immediately: for a moment the ingress may know no other.
    eventually(lambda: api.get(path).is_success, "the service responds")
    assert api.get(path).json() == content


def api_container() -> dict[str, Any]:
    deployment = json.loads(kubectl("get", "deployment", SERVICE, "--output", "json"))
    container: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return container


@pytest.mark.full
def test_release_of_a_killed_helm_is_recovered(api: httpx2.Client) -> None:
    path, content = EXAMPLE.write(api)
    pending = ("get", "secrets", "--selector", f"owner=helm,name={SERVICE},status=pending-upgrade", "--output", "name")
    command = ["helm", "upgrade", SERVICE, f"platform/helm/{SERVICE}", "--kube-context", CONTEXT, "--reuse-values"]
    with subprocess.Popen([*command, "--set", "image.tag=is-nowhere", "--wait"], cwd=REPOSITORY) as helm:
        eventually(lambda: kubectl(*pending) != "", "a pending revision")
        helm.kill()
    assert kubectl(*pending) != ""
    make_up(REPOSITORY)
    assert kubectl(*pending) == ""
    assert api.get(path).json() == content


@pytest.fixture
def cluster_registry() -> Iterator[str]:
    """Its address, with the cluster using it; afterwards the cluster is restored."""
    name = "task-platform-registry"
    inspected = subprocess.run(["docker", "container", "inspect", name], capture_output=True, check=False)
    make_up(REPOSITORY, "REGISTRY=1")
    port = run("docker", "port", name, "5000/tcp").split(":")[-1].strip()
    yield f"localhost:{port}"
    if inspected.returncode == 0:
        return  # it already used a registry
    run("docker", "rm", "--force", "--volumes", name)
    kubectl("delete", "configmap", "--namespace", "kube-public", "local-registry-hosting")
    make_up(REPOSITORY)


@pytest.mark.full
def test_with_a_registry_the_nodes_pull_the_pushed_images(cluster: Cluster, cluster_registry: str, image: str) -> None:
    name = image.removeprefix(f"{cluster_registry}/")  # `make up` may already use it
    assert {pod.spec.containers[0].image for pod in cluster.ready_pods()} == {f"{cluster_registry}/{name}"}
    hosting = ("get", "configmap", "--namespace", "kube-public", "local-registry-hosting", "--output")
    assert f'host: "{cluster_registry}"' in kubectl(*hosting, "jsonpath={.data}").replace("\\", "")
    pushed = f"{cluster_registry}/e2e-pushed:1"
    run("docker", "tag", image, pushed)
    run("docker", "push", pushed)
    run("docker", "image", "rm", pushed)
    for node in run("kind", "get", "nodes", "--name", "task-platform").split():
        # With ctr, which every node has, and the folder that the kubelet's pulls use to find the registry.
        images = ("docker", "exec", node, "ctr", "--namespace", "k8s.io", "images")
        run(*images, "pull", "--hosts-dir", "/etc/containerd/certs.d", pushed)
        run(*images, "rm", pushed)
