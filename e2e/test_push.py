"""Pushing to a registry: what was built and scanned is what arrives, under every tag."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import httpx2
import pytest
from e2e.conftest import REPOSITORY
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy

MANIFEST_TYPES = ", ".join(
    [
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
    ]
)


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    container = DockerContainer("registry:3").with_exposed_ports(5000)
    with container.waiting_for(HttpWaitStrategy(5000, "/v2/")):
        # By this name Docker speaks plain HTTP to it.
        yield f"127.0.0.1:{container.get_exposed_port(5000)}"


def push(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [REPOSITORY / "scripts/push.sh", *arguments], capture_output=True, text=True, timeout=300, check=False
    )


def test_every_tag_leads_to_the_image_that_was_built(registry: str, image: str) -> None:
    done = push(image, f"{registry}/task-api", "0123abc", "latest")
    assert done.returncode == 0, done.stderr
    built = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Id}}", image], capture_output=True, text=True, check=True
    ).stdout.strip()
    manifests = [
        httpx2.get(f"http://{registry}/v2/task-api/manifests/{tag}", headers={"Accept": MANIFEST_TYPES})
        for tag in ("0123abc", "latest")
    ]
    digests = {manifest.headers["docker-content-digest"] for manifest in manifests}
    assert len(digests) == 1
    assert digests.pop() in done.stdout
    # An image's id is the digest of its configuration, which names every layer.
    assert manifests[0].json()["config"]["digest"] == built
    for tag in ("0123abc", "latest"):
        subprocess.run(["docker", "image", "rm", f"{registry}/task-api:{tag}"], capture_output=True, check=True)


def test_a_call_without_tags_says_how_it_is_called(image: str) -> None:
    done = push(image, "somewhere/task-api")
    assert done.returncode == 2
    assert "Usage" in done.stderr
