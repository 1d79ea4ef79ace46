"""A saved line is served: the `dev` stage as the Tiltfile runs it, updated as Tilt does it. Needs Docker alone."""

from __future__ import annotations

import io
import statistics
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx2
import pytest
from e2e.cluster import REPOSITORY
from e2e.conftest import SUMMARY
from e2e.eventually import eventually
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

SAVES = 10
PACKAGE = "app/src/task_api"
NOTICED = "detected changes in"
"""What uvicorn's reloader logs when it ends the old process."""


@pytest.fixture(scope="module")
def dev_image() -> Iterator[str]:
    done = subprocess.run(
        ["docker", "build", "--quiet", "--target", "dev", "."],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    image = done.stdout.split()[-1]
    yield image
    subprocess.run(["docker", "image", "rm", "--force", image], capture_output=True, check=True)


class Running:
    """A container of the `dev` stage, and Tilt's way into it."""

    def __init__(self, container: DockerContainer) -> None:
        self._docker = container.get_wrapped_container()
        self.url = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8000)}"
        self.noticed_at: list[float] = []
        threading.Thread(target=self._follow, daemon=True).start()  # ends with the container's log

    def _follow(self) -> None:
        for line in self._docker.logs(stream=True, follow=True, tail=0):
            if NOTICED.encode() in line:
                self.noticed_at.append(time.monotonic())

    def save(self, path: str, text: str) -> None:
        """Copies a file in as Tilt does (internal/containerupdate): tar, unpacked by the container's user."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode, entry.mtime = len(text.encode()), 0o644, time.time()
            tar.addfile(entry, io.BytesIO(text.encode()))
        self._run("tar", "-C", "/", "-x", "-f", "-", given=archive.getvalue())

    def delete(self, path: str) -> None:
        self._run("rm", "-rf", f"/{path}")

    def read(self, path: str) -> str:
        return self._run("cat", f"/{path}")

    def _run(self, *command: str, given: bytes = b"") -> str:
        done = subprocess.run(
            ["docker", "exec", "--interactive", self._docker.id, *command], input=given, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def version(self) -> str | None:
        """What /health calls the version; None while nobody answers."""
        try:
            answer = httpx2.get(f"{self.url}/health", timeout=5)
        except httpx2.TransportError:  # the old process was ended in the middle of the answer
            return None
        return str(answer.json()["version"]) if answer.status_code == 200 else None

    def serves(self, version: str) -> None:
        deadline = time.monotonic() + 30
        while self.version() != version:
            assert time.monotonic() < deadline, f"version {version} is not served within 30 s"
            time.sleep(0.01)


@contextmanager
def running(image: str, nano_cpus: int | None = None) -> Iterator[Running]:
    """As a pod of the Tiltfile: the image's user, and what the chart forbids but for a root file system to write to."""
    container = DockerContainer(image, cap_drop=["ALL"], security_opt=["no-new-privileges"], nano_cpus=nano_cpus)
    container.with_exposed_ports(8000).waiting_for(LogMessageWaitStrategy("Application startup complete"))
    with container:
        yield Running(container)


class Save(NamedTuple):
    """The seconds that each part of a save took."""

    copy: float
    notice: float
    to_import: float

    def __str__(self) -> str:
        parts = f"copy {self.copy:.2f} s, notice {self.notice:.2f} s, import {self.to_import:.2f} s"
        return f"{parts}: served after {sum(self):.2f} s"


def saved(dev: Running, version: str) -> Save:
    """Saves a line that says the version, and waits until /health does."""
    noticed_before = len(dev.noticed_at)
    start = time.monotonic()
    dev.save(f"{PACKAGE}/__init__.py", f'"""Changed."""\n\n__version__ = "{version}"\n')
    copied = time.monotonic()
    dev.serves(version)
    served = time.monotonic()
    eventually(lambda: len(dev.noticed_at) > noticed_before, "the reloader's line in the log")
    noticed = dev.noticed_at[noticed_before]
    return Save(copied - start, max(noticed - copied, 0), served - max(noticed, copied))


@pytest.mark.parametrize(
    "nano_cpus",
    [
        pytest.param(None, id="without a CPU limit"),
        pytest.param(500_000_000, id="with 500m of a CPU", marks=pytest.mark.full),
    ],
)
def test_a_saved_line_is_served(
    dev_image: str,
    nano_cpus: int | None,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    with running(dev_image, nano_cpus) as dev:
        # Of one length and within one second: a cache of bytecode that asks for size and time would serve an old one.
        saves = [saved(dev, f"9.9.{number}") for number in range(SAVES)]
    median = Save(*(statistics.median(part) for part in zip(*saves, strict=True)))
    record_property(SUMMARY, f"Median of {SAVES} saves {request.node.callspec.id}: {median}")


def test_a_line_that_cannot_be_parsed_ends_nothing_and_the_next_save_mends_it(dev_image: str) -> None:
    with running(dev_image) as dev:
        noticed_before = len(dev.noticed_at)
        dev.save(f"{PACKAGE}/__init__.py", "def\n")
        eventually(lambda: len(dev.noticed_at) > noticed_before, "the reloader notices the save")
        eventually(lambda: dev.version() is None, "nobody answers")
        dev.save(f"{PACKAGE}/__init__.py", '__version__ = "9.9.9"\n')
        dev.serves("9.9.9")


def test_files_come_and_go(dev_image: str) -> None:
    with running(dev_image) as dev:
        dev.save(f"{PACKAGE}/added/number.py", "NUMBER = '7.7.7'\n")
        dev.save(f"{PACKAGE}/__init__.py", f"from {PACKAGE.split('/')[-1]}.added.number import NUMBER as __version__\n")
        dev.serves("7.7.7")
        dev.save(f"{PACKAGE}/__init__.py", '__version__ = "8.8.8"\n')
        dev.delete(f"{PACKAGE}/added")
        dev.serves("8.8.8")
        with pytest.raises(AssertionError, match="No such file"):
            dev.read(f"{PACKAGE}/added/number.py")


def test_only_the_code_belongs_to_its_user(dev_image: str) -> None:
    with running(dev_image) as dev, pytest.raises(AssertionError, match="Cannot open"):
        dev.save("opt/venv/bin/app", "#!/bin/sh\n")
