"""`make up` after a change, and after none."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from e2e.conftest import NAMESPACE, REPOSITORY, Cluster, eventually
from repository_copy import copy_repository


def make_up(repository: Path) -> None:
    done = subprocess.run(["make", "up"], cwd=repository, env=os.environ, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def content_tag(repository: Path) -> str:
    done = subprocess.run(["scripts/image-tag.sh"], cwd=repository, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The repository, to be changed by a test; the cluster is the same."""
    return copy_repository(tmp_path)


@pytest.fixture
def changed_copy(copy: Path) -> Iterator[Path]:
    """With a line more; the repository's own content is deployed again afterwards."""
    with (copy / "services/task-api/src/task_api/__init__.py").open("a") as module:
        module.write("\n# A line more.\n")
    yield copy
    make_up(REPOSITORY)


def test_an_unchanged_tree_changes_nothing(cluster: Cluster, copy: Path) -> None:
    def state() -> tuple[object, ...]:
        deployment = cluster.apps.read_namespaced_deployment("task-api", NAMESPACE)
        postgres = cluster.apps.read_namespaced_stateful_set("task-api-postgres", NAMESPACE)
        pods = sorted(pod.metadata.uid for pod in cluster.ready_pods())
        return deployment.metadata.generation, postgres.metadata.generation, pods

    eventually(lambda: len(cluster.ready_pods()) == 3, "three ready pods")
    before = state()
    assert content_tag(copy) == content_tag(REPOSITORY)  # another folder and no commit, but the same content
    make_up(copy)
    assert state() == before


@pytest.mark.full  # two minutes with what puts it back; a new image rolls out in test_deploy.py, too
def test_a_changed_line_rolls_out(cluster: Cluster, changed_copy: Path, api: httpx2.Client, image: str) -> None:
    task = api.post("/v1/tasks", json={"title": "older than the release"}).json()
    changed = content_tag(changed_copy)
    assert changed != content_tag(REPOSITORY)
    make_up(changed_copy)
    eventually(lambda: api.get("/health").json()["revision"] == changed, f"the ingress leads to {changed}")
    images = {pod.spec.containers[0].image for pod in cluster.ready_pods()}
    repository = image.rpartition(":")[0]
    assert images == {f"{repository}:{changed}"}
    assert api.get(f"/v1/tasks/{task['id']}").json() == task
