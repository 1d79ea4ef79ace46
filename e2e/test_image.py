"""The built image without a cluster: its content, start and shutdown."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import httpx2
import pytest
from e2e.cluster import REPOSITORY
from e2e.eventually import eventually
from e2e.example import EXAMPLE
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy
from under_test import SELF, SERVICE


@dataclass(frozen=True)
class Built:
    name: str
    labels: dict[str, str]
    """Its own values of the labels, besides those common to all images of the service."""


def local_build(name: str) -> Built:
    return Built(name, {"revision": name.rpartition(":")[2]})


def pipeline_build(name: str, commit: str, repository: str) -> Built:
    seconds = int(output("git", "log", "-1", "--format=%ct", commit))
    created = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Built(name, {"revision": commit, "created": created, "source": f"https://github.com/{repository}"})


def output(*command: str | Path, **environment: str) -> str:
    environment = {**os.environ, **environment}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module", params=["under test", "as the pipeline makes it"])
def built(request: pytest.FixtureRequest, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The image under test, which in a run of main is the pipeline's, identified by IMAGE_COMMIT; and one built with
    the pipeline's arguments and labels, exported as a layout and loaded under a content tag, as there."""
    if request.param == "under test":
        commit = os.environ.get("IMAGE_COMMIT")
        yield pipeline_build(image, commit, os.environ["GITHUB_REPOSITORY"]) if commit else local_build(image)
        return
    commit, repository = output("git", "rev-parse", "HEAD"), "you/it"
    name = f"of-the-pipeline/{SERVICE}:{output('scripts/image-tag.sh', SERVICE=SERVICE)}"
    github = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": repository}
    options = output("scripts/image-metadata.sh", "options", SERVICE, commit, **github).splitlines()
    layout = tmp_path_factory.mktemp("built") / "image"
    try:
        output("docker", "build", "--quiet", *options, "--tag", name, ".")
        output(sys.executable, "scripts/layout.py", "save", name, layout)
        output("docker", "image", "rm", name)
        output(sys.executable, "scripts/layout.py", "load", layout, name)
        yield pipeline_build(name, commit, repository)
    finally:
        subprocess.run(["docker", "image", "rm", "--force", name], capture_output=True, check=True)


def started(built: Built) -> DockerContainer:
    """As in the chart: read-only except for /tmp, and without capabilities."""
    container = DockerContainer(built.name, read_only=True, cap_drop=["ALL"], security_opt=["no-new-privileges"])
    container.with_tmpfs_mount("/tmp").with_exposed_ports(8000).waiting_for(LogMessageWaitStrategy("Listening on"))
    return container


@pytest.fixture(scope="module")
def container(built: Built) -> Iterator[DockerContainer]:
    """A container shared by all tests that do not change it."""
    with started(built) as running:
        yield running


def url(container: DockerContainer) -> str:
    return f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8000)}"


def test_starts_read_only_as_user_1000_and_responds(container: DockerContainer, built: Built) -> None:
    health = httpx2.get(f"{url(container)}/health").json()
    assert health["status"] == "ok"
    assert health["revision"] == built.labels["revision"]
    assert container.exec("id -u").output.decode().strip() == "1000"
    assert container.exec("touch /app/x").exit_code != 0


def test_listens_on_all_ipv4_and_ipv6_addresses(container: DockerContainer) -> None:
    for table, any_address in (("tcp", "0" * 8), ("tcp6", "0" * 32)):
        sockets = container.exec(f"cat /proc/net/{table}").output.decode()
        assert f"{any_address}:{8000:04X} {any_address}:0000 0A" in sockets  # 0A: LISTEN


def test_stores_what_is_written(container: DockerContainer) -> None:
    with httpx2.Client(base_url=url(container)) as client:
        path, content = EXAMPLE.write(client)
        assert client.get(path).json() == content


def test_contains_no_package_installer(container: DockerContainer) -> None:
    search = """
import subprocess, sys
for python in (sys.executable, sys._base_executable):
    for module in ("pip", "setuptools", "wheel", "ensurepip", "pkg_resources"):
        done = subprocess.run([python, "-c", f"import {module}"], stderr=subprocess.PIPE, text=True)
        if "ModuleNotFoundError" not in done.stderr:
            print(python, "has", module)
"""
    done = container.exec(["python", "-c", search])
    assert (done.exit_code, done.output.decode()) == (0, "")


def test_contains_no_setuid_or_setgid_program(built: Built) -> None:
    """Like su, mount or passwd: `docker run` alone does not prevent their use."""
    search = ["find", "/", "-xdev", "-type", "f", "-perm", "/6000"]
    # As root, with capabilities: every folder is readable.
    assert output("docker", "run", "--rm", "--user", "0", "--entrypoint", search[0], built.name, *search[1:]) == ""


def test_code_belongs_to_root_and_is_not_writable(container: DockerContainer) -> None:
    writable = container.exec(
        ["find", "/app", "/opt/venv", "-not", "-type", "l", "(", "-writable", "-or", "-not", "-user", "root", ")"]
    )
    assert writable.output.decode() == ""


def test_code_is_compiled_to_unchecked_hash_bytecode(container: DockerContainer) -> None:
    """Each source file of the service and its packages has bytecode that is used without checking the source (unchecked
    hash): a read-only container would compile missing bytecode at every start."""
    script = """
import importlib.util, pathlib
sources = [f for top in ("/app/src", "/opt/venv/lib") for f in pathlib.Path(top).rglob("*.py")]
missing = []
for source in sources:
    compiled = pathlib.Path(importlib.util.cache_from_source(str(source)))
    if not compiled.exists() or compiled.read_bytes()[4:8] != (1).to_bytes(4, "little"):
        missing.append(str(source))
print(len(sources), missing)
"""
    number, missing = container.exec(["python", "-c", script]).output.decode().strip().split(" ", 1)
    assert int(number) > 100
    assert missing == "[]"


def test_labels_identify_the_image(built: Built) -> None:
    labels = json.loads(output("docker", "image", "inspect", built.name))[0]["Config"]["Labels"]
    labels = {k.removeprefix("org.opencontainers.image."): v for k, v in labels.items() if "opencontainers" in k}
    base = labels.pop("base.name")
    assert base.startswith("python:3.11-slim") or "PYTHON_IMAGE" in os.environ  # a custom base image
    assert labels == {"title": SERVICE, "licenses": "Apache-2.0", **built.labels}


def test_docker_stop_ends_it_in_time_with_exit_code_0(built: Built) -> None:
    """With a kept-alive connection, and a reader of the service's stream if it has one."""
    with started(built) as container, httpx2.Client() as client, contextlib.ExitStack() as reading:
        docker = container.get_wrapped_container()
        client.get(f"{url(container)}/livez")  # the connection stays open
        if "stream" in SELF:
            headers = {"Accept": "text/event-stream"}
            changes = reading.enter_context(httpx2.stream("GET", f"{url(container)}{SELF['stream']}", headers=headers))
            next(changes.iter_lines())
        docker.stop(timeout=5)  # after that it would be killed: exit code 137
        reading.close()
        assert docker.wait()["StatusCode"] == 0


def test_docker_reports_it_healthy(container: DockerContainer) -> None:
    docker = container.get_wrapped_container()

    def status() -> bool:
        docker.reload()
        state: dict[str, Any] = docker.attrs["State"]["Health"]
        assert state["Status"] != "unhealthy", json.dumps(state["Log"])
        return bool(state["Status"] == "healthy")

    eventually(status, "the container's HEALTHCHECK reports healthy", seconds=60)


def contents(image: str, folder: Path) -> tuple[dict[str, Any], list[dict[str, object]]]:
    """The image's configuration, and for each layer the metadata of every file except its time."""
    archive = folder / "image.tar"
    subprocess.run(["docker", "save", "--output", archive, image], check=True)
    with tarfile.open(archive) as saved:

        def member(name: str) -> IO[bytes]:
            file = saved.extractfile(name)
            assert file is not None
            return file

        manifest = json.load(member("manifest.json"))[0]
        layers = []
        for name in manifest["Layers"]:
            files: dict[str, object] = {}
            with tarfile.open(fileobj=member(name)) as layer:
                for entry in layer:
                    file = layer.extractfile(entry) if entry.isfile() else None
                    digest = hashlib.sha256(file.read()).hexdigest() if file else ""
                    files[entry.name] = (entry.type, entry.mode, entry.uid, entry.gid, entry.linkname, digest)
            layers.append(files)
        return json.load(member(manifest["Config"])), layers


@pytest.mark.full
def test_two_clean_builds_differ_only_in_timestamps(tmp_path: Path) -> None:
    """This builder keeps the times of files and of the build. In the pipeline BuildKit sets them to the commit's
    (SOURCE_DATE_EPOCH and rewrite-timestamp), so the digest is identical, too."""
    names = [f"{SERVICE}:built-once", f"{SERVICE}:built-twice"]
    build = ["docker", "build", "--quiet", "--no-cache", "--tag"]
    try:
        for name in names:
            done = subprocess.run([*build, name, "."], cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
            assert done.returncode == 0, done.stderr
        (first, first_layers), (second, second_layers) = (contents(name, tmp_path) for name in names)
    finally:
        subprocess.run(["docker", "image", "rm", "--force", *names], capture_output=True, check=True)
    assert len(first_layers) == len(second_layers)
    for layer, other in zip(first_layers, second_layers, strict=True):
        assert {name for name in layer.keys() | other.keys() if layer.get(name) != other.get(name)} == set()
    assert first["config"] == second["config"]
    commands = [[step.get("created_by") for step in image["history"]] for image in (first, second)]
    assert commands[0] == commands[1]
    assert {key for key in first if first[key] != second[key]} <= {"created", "history", "rootfs"}


@pytest.mark.full
def test_classic_builder_builds_it() -> None:
    """Docker 20.10 without BuildKit."""
    done = subprocess.run(
        ["docker", "build", "--quiet", "."],
        cwd=REPOSITORY,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    built = done.stdout.split()[-1]
    try:
        inspected = subprocess.run(["docker", "image", "inspect", built], capture_output=True, text=True, check=True)
        assert json.loads(inspected.stdout)[0]["Config"]["User"] == "1000:1000"
    finally:
        subprocess.run(["docker", "image", "rm", "--force", built], capture_output=True, check=True)
