"""The service as a process that tests kill and restart on the same port."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import httpx2

from acknowledged.trial import Trial

DEADLINE_SECONDS = 60.0


def free_port() -> int:
    """A free port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def client_of(url: str) -> httpx2.Client:
    """A client with the timeouts of a trial."""
    return httpx2.Client(base_url=url, timeout=10)


class Running(Protocol):
    """The interface of a process; a subprocess.Popen has it."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...


class Start(Protocol):
    """Starts a process in its own session with this environment."""

    def __call__(self, command: Sequence[str], env: Mapping[str, str], stdout: IO[Any], stderr: IO[Any]) -> Running: ...


def start_in_new_session(command: Sequence[str], env: Mapping[str, str], stdout: IO[Any], stderr: IO[Any]) -> Running:
    return subprocess.Popen(command, env=env, stdout=stdout, stderr=stderr, start_new_session=True)


class Process:
    """A command that listens on TASKS_PORT and logs to a file."""

    def __init__(
        self, command: list[str], environment: Mapping[str, str], log: Path, start: Start = start_in_new_session
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = command
        self._environment = {**environment, "TASKS_PORT": str(self.port)}
        self._log = log
        self._start = start
        self._process: Running | None = None

    def client(self) -> httpx2.Client:
        return client_of(self.url)

    def start(self) -> None:
        with self._log.open("ab") as log:
            # In its own session and process group: `make run` may be a shell that waits for the server.
            self._process = self._start(self._command, self._environment, log, log)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not self._is_ready():
            assert self._process is not None
            assert self._process.poll() is None, f"the process exited:\n{self._log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"not ready:\n{self._log.read_text()[-2000:]}"
            time.sleep(0.02)

    def send(self, sent: signal.Signals) -> None:
        """Sends a signal; Kubernetes sends SIGTERM."""
        assert self._process is not None
        self._process.send_signal(sent)

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(DEADLINE_SECONDS)

    def kill(self) -> None:
        """Kills it with SIGKILL."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(DEADLINE_SECONDS)

    def _is_ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/readyz").status_code == 200
        except httpx2.TransportError:
            return False


@contextlib.contextmanager
def serving_process(
    command: list[str], environment: Mapping[str, str], log: Path, start: Start = start_in_new_session
) -> Iterator[Process]:
    """A process that serves until the end of the block."""
    process = Process(command, environment, log, start)
    process.start()
    try:
        process.wait_until_ready()
        yield process
    finally:
        process.kill()


def assert_not_corrupt(database: Path) -> None:
    """Fails if a SQLite file that no process has open is corrupt."""
    # On a copy: opening the file itself would recover it, which the service must do.
    with tempfile.TemporaryDirectory() as folder:
        for file in (database, database.with_name(f"{database.name}-wal")):
            if file.exists():
                shutil.copy(file, folder)
        with contextlib.closing(sqlite3.connect(Path(folder) / database.name)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def kill_repeatedly(
    running: Trial, process: Process, times: int, database: Path | None = None, *, writes: int = 5
) -> None:
    """Kills the process during writes and restarts it, several times.

    database: a SQLite file, checked for corruption after each kill.
    """
    for _ in range(times):
        before = _acknowledged(running)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while _acknowledged(running) < before + writes:
            assert time.monotonic() < deadline, f"fewer than {writes} writes within {DEADLINE_SECONDS:.0f} s of a start"
            time.sleep(0.01)
        time.sleep(random.random() * 0.05)  # kill it at a random time
        running.mark_fault("kill -9")
        process.kill()
        if database is not None:
            assert_not_corrupt(database)
        process.start()


def _acknowledged(running: Trial) -> int:
    return sum(operation.outcome == "ok" for operation in list(running.history.operations))
