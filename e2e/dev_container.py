"""A container of the `dev` stage as the Tiltfile runs it, and Tilt's way into it."""

from __future__ import annotations

import io
import statistics
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, NamedTuple

import httpx2
from e2e.eventually import eventually
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy
from under_test import HAS_DATABASE, PREFIX
from under_test import PACKAGE as MODULE

PACKAGE = f"app/src/{MODULE}"
INIT = f"{PACKAGE}/__init__.py"
NOTICED = "dev server: Changed: "
"""What the dev server logs when it ends the old process and forks the next."""


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

    def save(self, files: dict[str, str]) -> None:
        """Copies files in as Tilt does (internal/containerupdate): tar, unpacked by the container's user."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path, text in files.items():
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode, entry.mtime = len(text.encode()), 0o644, time.time()
                tar.addfile(entry, io.BytesIO(text.encode()))
        self.run("tar", "-C", "/", "-x", "-f", "-", given=archive.getvalue())

    def save_version(self, version: str) -> None:
        self.save({INIT: f'"""Changed."""\n\n__version__ = "{version}"\n'})

    def delete(self, path: str) -> None:
        self.run("rm", "-rf", f"/{path}")

    def read(self, path: str) -> str:
        return self.run("cat", f"/{path}")

    def run(self, *command: str, given: bytes = b"") -> str:
        done = subprocess.run(
            ["docker", "exec", "--interactive", self._docker.id, *command], input=given, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    @contextmanager
    def writing(self, path: str) -> Iterator[IO[bytes]]:
        """A file that is open for writing until the end of the block."""
        command = ["docker", "exec", "--interactive", self._docker.id, "sh", "-c", f"cat > /{path}"]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            yield process.stdin
            process.stdin.close()
            assert process.wait(60) == 0

    def log(self) -> str:
        return bytes(self._docker.logs()).decode()

    def stop(self) -> int:
        """Ends it as Kubernetes does; returns its exit code."""
        self._docker.stop(timeout=30)
        return int(self._docker.wait()["StatusCode"])

    def get(self, path: str) -> httpx2.Response | None:
        try:
            return httpx2.get(f"{self.url}{path}", timeout=30)
        except httpx2.TransportError:  # the old process was ended in the middle of the answer
            return None

    def version(self) -> str | None:
        """What /health calls the version; None while that cannot be said."""
        answer = self.get("/health")
        return str(answer.json()["version"]) if answer is not None and answer.status_code == 200 else None

    def fails(self, why: str) -> None:
        """Waits until that is what it answers."""
        eventually(lambda: (answer := self.get("/livez")) is not None and why in answer.text, f"{why} is answered")

    def serves(self, version: str) -> None:
        deadline = time.monotonic() + 30
        while self.version() != version:
            assert time.monotonic() < deadline, f"version {version} is not served within 30 s"
            time.sleep(0.01)


@contextmanager
def running(image: str, nano_cpus: int | None = None, storage: str = "memory://") -> Iterator[Running]:
    """As a pod of the Tiltfile: the image's user, and what the chart forbids but for a root file system to write to.

    storage: the URL of its database, where it has one.
    """
    container = DockerContainer(image, cap_drop=["ALL"], security_opt=["no-new-privileges"], nano_cpus=nano_cpus)
    container.with_exposed_ports(8000)
    if HAS_DATABASE:
        container.with_env(f"{PREFIX}DATABASE_URL", storage)
    container.waiting_for(LogMessageWaitStrategy("Listening on"))
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


def timed_save(dev: Running, version: str, save: Callable[[str], None]) -> Save:
    """Saves a line that says the version by `save`, and waits until /health does."""
    noticed_before = len(dev.noticed_at)
    start = time.monotonic()
    save(version)
    copied = time.monotonic()
    dev.serves(version)
    served = time.monotonic()
    eventually(lambda: len(dev.noticed_at) > noticed_before, "the dev server's line in the log")
    noticed = dev.noticed_at[noticed_before]
    return Save(copied - start, max(noticed - copied, 0), served - max(noticed, copied))


def median(saves: Sequence[Save]) -> Save:
    """Of each part by itself."""
    return Save(*(statistics.median(part) for part in zip(*saves, strict=True)))
