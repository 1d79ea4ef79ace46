"""A container of the `dev` stage, run as in the Tiltfile, with updates as by Tilt."""

from __future__ import annotations

import io
import statistics
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import IO, NamedTuple

import httpx2
from e2e.eventually import eventually
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy
from under_test import HAS_DATABASE, PREFIX
from under_test import PACKAGE as MODULE

PACKAGE = f"app/src/{MODULE}"
INIT = f"{PACKAGE}/__init__.py"
RELOAD_LINE = "dev server: Changed: "
"""Logged by the dev server when it stops the old process and forks the next one."""


class Running:
    """A running container of the `dev` stage, with updates as by Tilt."""

    def __init__(self, container: DockerContainer) -> None:
        self._docker = container.get_wrapped_container()
        self.url = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8000)}"
        # A new connection for each request, but a single client: each loads its CA certificates for 22 ms of CPU time.
        self._client = httpx2.Client(timeout=30, limits=httpx2.Limits(max_keepalive_connections=0))
        self.reloads_at: list[float] = []
        threading.Thread(target=self._follow, daemon=True).start()  # ends with the container's log

    def _follow(self) -> None:
        for line in self._docker.logs(stream=True, follow=True, tail=0):
            if RELOAD_LINE.encode() in line:
                self.reloads_at.append(time.monotonic())

    def save(self, files: dict[str, str]) -> None:
        """Copies files like Tilt (internal/containerupdate): tar, unpacked as the container's user."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path, text in files.items():
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode, entry.mtime = len(text.encode()), 0o644, time.time()
                tar.addfile(entry, io.BytesIO(text.encode()))
        self.run("tar", "-C", "/", "-x", "-f", "-", stdin=archive.getvalue())

    def save_version(self, version: str) -> None:
        self.save({INIT: f'"""Changed."""\n\n__version__ = "{version}"\n'})

    def delete(self, path: str) -> None:
        self.run("rm", "-rf", f"/{path}")

    def read(self, path: str) -> str:
        return self.run("cat", f"/{path}")

    def run(self, *command: str, stdin: bytes = b"") -> str:
        result = subprocess.run(
            ["docker", "exec", "--interactive", self._docker.id, *command], input=stdin, capture_output=True, timeout=60
        )
        assert result.returncode == 0, result.stderr.decode()
        return result.stdout.decode()

    @contextmanager
    def writing(self, path: str) -> Iterator[IO[bytes]]:
        """A file that is open for writing for the duration of the block."""
        command = ["docker", "exec", "--interactive", self._docker.id, "sh", "-c", f"cat > /{path}"]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            yield process.stdin
            process.stdin.close()
            assert process.wait(60) == 0

    def log(self) -> str:
        return bytes(self._docker.logs()).decode()

    def close(self) -> None:
        self._client.close()

    def stop(self) -> int:
        """Stops it like Kubernetes; returns its exit code."""
        self._docker.stop(timeout=30)
        return int(self._docker.wait()["StatusCode"])

    def get(self, path: str) -> httpx2.Response | None:
        try:
            return self._client.get(f"{self.url}{path}")
        except httpx2.TransportError:  # the old process was stopped in the middle of the response
            return None

    def version(self) -> str | None:
        """The version in /health; None while it is unavailable."""
        response = self.get("/health")
        return str(response.json()["version"]) if response is not None and response.status_code == 200 else None

    def fails(self, why: str) -> None:
        """Waits until responses contain this text."""
        eventually(
            lambda: (response := self.get("/livez")) is not None and why in response.text, f"responses have {why}"
        )

    def serves(self, version: str) -> None:
        deadline = time.monotonic() + 30
        while self.version() != version:
            assert time.monotonic() < deadline, f"version {version} was not served within 30 s"
            time.sleep(0.01)


@contextmanager
def running(image: str, nano_cpus: int | None = None, storage: str = "memory://") -> Iterator[Running]:
    """Like a pod of the Tiltfile: the image's user, and the chart's restrictions except for the writable root file
    system.

    storage: its database URL, if it has a database.
    """
    container = DockerContainer(image, cap_drop=["ALL"], security_opt=["no-new-privileges"], nano_cpus=nano_cpus)
    container.with_exposed_ports(8000)
    if HAS_DATABASE:
        container.with_env(f"{PREFIX}DATABASE_URL", storage)
    container.waiting_for(LogMessageWaitStrategy("Listening on"))
    with container, closing(Running(container)) as dev:
        yield dev


class Save(NamedTuple):
    """Duration of each part of a save, in seconds."""

    copy: float
    notice: float
    to_import: float

    def __str__(self) -> str:
        parts = f"copy {self.copy:.2f} s, notice {self.notice:.2f} s, import {self.to_import:.2f} s"
        return f"{parts}: served after {sum(self):.2f} s"


def timed_save(dev: Running, version: str, save: Callable[[str], None]) -> Save:
    """Changes the version with `save`, and waits until /health reports it."""
    reloads_before = len(dev.reloads_at)
    start = time.monotonic()
    save(version)
    copied = time.monotonic()
    dev.serves(version)
    served = time.monotonic()
    eventually(lambda: len(dev.reloads_at) > reloads_before, "the dev server's line in the log")
    reloaded = dev.reloads_at[reloads_before]
    return Save(copied - start, max(reloaded - copied, 0), served - max(reloaded, copied))


def median(saves: Sequence[Save]) -> Save:
    """The median of each part."""
    return Save(*(statistics.median(part) for part in zip(*saves, strict=True)))
