"""A saved line is served: the `dev` stage as the Tiltfile runs it, updated as Tilt does it. Needs Docker alone."""

from __future__ import annotations

import io
import re
import statistics
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

import httpx2
import pytest
from e2e.cluster import REPOSITORY
from e2e.conftest import SUMMARY
from e2e.eventually import eventually
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

SAVES = 10
PACKAGE = "app/src/task_api"
INIT = f"{PACKAGE}/__init__.py"
NOTICED = "dev server: Changed: "
"""What the dev server logs when it ends the old process and forks the next."""


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

    def tables(self) -> set[str]:
        """Those of the SQLite file."""
        program = "import sqlite3; print(*(t for t, in sqlite3.connect('/tmp/tasks.db').execute("
        return set(self.run("python", "-c", program + "'SELECT name FROM sqlite_master')))").split())

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
    """As a pod of the Tiltfile: the image's user, and what the chart forbids but for a root file system to write to."""
    container = DockerContainer(image, cap_drop=["ALL"], security_opt=["no-new-privileges"], nano_cpus=nano_cpus)
    container.with_exposed_ports(8000).with_env("TASKS_DATABASE_URL", storage)
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


def saved(dev: Running, version: str) -> Save:
    """Saves a line that says the version, and waits until /health does."""
    noticed_before = len(dev.noticed_at)
    start = time.monotonic()
    dev.save_version(version)
    copied = time.monotonic()
    dev.serves(version)
    served = time.monotonic()
    eventually(lambda: len(dev.noticed_at) > noticed_before, "the dev server's line in the log")
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


def test_a_saved_line_of_the_chassis_is_served(dev_image: str) -> None:
    module = "app/src/chassis/health.py"
    with running(dev_image) as dev:
        dev.save({module: dev.read(module).replace('return "ok"', 'return "changed"')})
        eventually(lambda: (answer := dev.get("/livez")) is not None and answer.text == "changed", "it is served")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        pytest.param("def", "SyntaxError", id="cannot be parsed"),
        pytest.param("raise RuntimeError('not today')", "RuntimeError: not today", id="fails when it is imported"),
        pytest.param("import os; os.abort()", "exit code -6", id="ends the process"),
    ],
)
def test_what_cannot_be_served_is_the_answer_to_every_request_until_it_is_mended(
    dev_image: str, line: str, why: str
) -> None:
    with running(dev_image) as dev:
        dev.save({INIT: line + "\n"})
        dev.fails(why)
        for answer in (httpx2.get(f"{dev.url}/livez"), httpx2.post(f"{dev.url}/v1/tasks", json={"title": "x"})):
            assert answer.status_code == 500
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert why in answer.text
        dev.save_version("9.9.9")
        dev.serves("9.9.9")


def test_what_fails_at_start_is_the_answer_too(dev_image: str) -> None:
    with running(dev_image) as dev:
        before = dev.read(f"{PACKAGE}/service.py")
        broken = before.replace("await super().open()", "1 / 0")
        assert broken != before
        dev.save({f"{PACKAGE}/service.py": broken})
        dev.fails("ZeroDivisionError")


def test_files_come_and_go(dev_image: str) -> None:
    with running(dev_image) as dev:
        dev.save({f"{PACKAGE}/added/number.py": "NUMBER = '7.7.7'\n"})
        dev.save({INIT: f"from {PACKAGE.split('/')[-1]}.added.number import NUMBER as __version__\n"})
        dev.serves("7.7.7")
        dev.save({f"{PACKAGE}/added/number.py": "NUMBER = '7.7.8'\n"})
        dev.serves("7.7.8")
        dev.save_version("8.8.8")
        dev.delete(f"{PACKAGE}/added")
        dev.serves("8.8.8")
        with pytest.raises(AssertionError, match="No such file"):
            dev.read(f"{PACKAGE}/added/number.py")


def test_many_files_at_once_are_not_as_many_changes(dev_image: str) -> None:
    """As by `git checkout`."""
    with running(dev_image) as dev:
        added = {f"{PACKAGE}/file_{number}.py": f"NUMBER = {number}\n" for number in range(20)}
        dev.save(added | {INIT: "from task_api.file_19 import NUMBER\n\n__version__ = str(NUMBER)\n"})
        dev.serves("19")
        assert dev.log().count(NOTICED) < len(added) / 2


def test_a_file_that_takes_the_place_of_another_is_noticed(dev_image: str) -> None:
    """As editors save, and Git."""
    with running(dev_image) as dev:
        dev.save({"app/src/new": '__version__ = "5.5.5"\n'})
        dev.run("mv", "/app/src/new", f"/{INIT}")
        dev.serves("5.5.5")


def test_a_saved_migration_is_applied_and_refused_once_it_was_changed(dev_image: str) -> None:
    migration = f"{PACKAGE}/store/migrations/sqlite/0099_effort.sql"
    with running(dev_image, storage="sqlite:////tmp/tasks.db") as dev:
        dev.save({migration: "CREATE TABLE effort (hours integer);\n"})
        eventually(lambda: "effort" in dev.tables(), "the migration is applied")
        dev.save({migration: "CREATE TABLE effort (minutes integer);\n"})
        dev.fails("migration 0099 effort was changed after it was applied")
        dev.save({migration: "CREATE TABLE effort (hours integer);\n"})
        eventually(lambda: dev.version() is not None, "it serves again")


def test_what_is_half_written_is_waited_for(dev_image: str) -> None:
    migration = f"{PACKAGE}/store/migrations/sqlite/0099_effort.sql"
    with running(dev_image, storage="sqlite:////tmp/tasks.db") as dev:
        with dev.writing(migration) as file:
            eventually(lambda: dev.run("sh", "-c", f"ls /{migration} || true"), "it is there, and empty")
            dev.save_version("8.8.8")
            time.sleep(0.5)  # nothing is to happen within it
            file.write(b"CREATE TABLE effort (hours integer);\n")
            file.flush()
            eventually(lambda: "effort" in dev.run("sh", "-c", f"cat /{migration} || true"), "half of it is there")
            dev.save_version("9.9.9")
            file.write(b"CREATE TABLE rest (hours integer);\n")
        dev.serves("9.9.9")
        assert dev.tables() >= {"effort", "rest"}
        assert dev.log().count(NOTICED) == 1


def test_clients_wait_while_one_process_follows_the_other(dev_image: str) -> None:
    refused: list[httpx2.ConnectError] = []
    done = threading.Event()
    with running(dev_image) as dev:

        def ask() -> None:
            while not done.is_set():
                try:
                    httpx2.get(f"{dev.url}/livez", timeout=30)
                except httpx2.ConnectError as error:
                    refused.append(error)
                except httpx2.TransportError:
                    pass  # it was ended in the middle of the answer

        client = threading.Thread(target=ask)
        client.start()
        for number in range(3):
            dev.save_version(f"9.9.{number}")
            dev.serves(f"9.9.{number}")
        done.set()
        client.join()
    assert refused == []


def test_no_thread_runs_where_the_next_process_is_forked(dev_image: str) -> None:
    with running(dev_image) as dev:
        dev.save_version("9.9.9")
        dev.serves("9.9.9")
        assert "\nThreads:\t1\n" in dev.read("proc/1/status")


def test_probes_are_not_in_the_log_and_requests_are(dev_image: str) -> None:
    with running(dev_image) as dev:
        for path in ("/livez", "/readyz", "/metrics", "/health", "/v1/tasks"):
            assert httpx2.get(f"{dev.url}{path}").status_code == 200
        eventually(lambda: '"path":"/v1/tasks"' in dev.log(), "the request is in the log")
        assert not {"/livez", "/readyz", "/metrics", "/health"} & set(re.findall(r'"path":"([^"]*)"', dev.log()))


def test_a_signal_ends_all_of_it(dev_image: str) -> None:
    with running(dev_image) as dev:
        assert dev.stop() == 0


def test_only_the_code_belongs_to_its_user(dev_image: str) -> None:
    with running(dev_image) as dev, pytest.raises(AssertionError, match="Cannot open"):
        dev.save({"opt/venv/bin/app": "#!/bin/sh\n"})
