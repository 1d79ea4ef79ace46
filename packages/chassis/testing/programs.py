"""Runs a service as a separate process, for tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import IO, Any, TypeAlias

import pytest
from preloaded import ForkedProcess

DEADLINE_SECONDS = 90
"""Longer than anything takes even on a busy machine: a passing test never waits that long."""
FORKS = sys.platform == "linux"
"""The system libraries of macOS do not survive a fork."""

Process: TypeAlias = subprocess.Popen[Any] | ForkedProcess


def eventually(condition: Callable[[], object], what: str, *, seconds: float = DEADLINE_SECONDS) -> None:
    """Returns once the condition is true; fails with `what` after the timeout."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)


class Service:
    """A running service."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.url = url
        self.log: list[str] = []
        """Log lines since it started listening; complete once the process has exited."""

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(sig)
        return self.process.wait(DEADLINE_SECONDS)


class Program:
    """The program `python -m PACKAGE`.

    prefix: of its settings. sources: the source folders of the service and of the chassis.
    """

    def __init__(self, package: str, prefix: str, sources: Sequence[Path]) -> None:
        self.package = package
        self.prefix = prefix
        self.path = os.pathsep.join(map(str, sources))
        self.command = [sys.executable, "-m", package]
        self.serve = [*self.command, "serve"]

    def environment(self, **settings: str) -> dict[str, str]:
        """The environment of a process of the service, with these settings."""
        return {**os.environ, "PYTHONPATH": self.path, **settings}

    def start(self, command: Sequence[str], env: Mapping[str, str], stdout: IO[Any], stderr: IO[Any] | int) -> Process:
        """Starts it in a new session, forked with its imports done if possible."""
        # Other variables may belong to the interpreter or the C library, which do not read them again after a fork.
        others = {name for name in env if env[name] != os.environ.get(name)} - {"PYTHONPATH"}
        if FORKS and all(name.startswith(self.prefix) for name in others):
            return ForkedProcess(command, env, stdout, stderr, preloaded=f"{self.package}.__main__", path=self.path)
        return subprocess.Popen(
            command, env=env, stdout=stdout, stderr=stderr, text=stderr == subprocess.PIPE, start_new_session=True
        )

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of the service until it exits."""
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            process = self.start([*self.command, *arguments], self.environment(**settings), stdout, stderr)
            try:
                code = process.wait(DEADLINE_SECONDS)
            finally:
                process.kill()
            for file in (stdout, stderr):
                file.seek(0)
            return subprocess.CompletedProcess(process.args, code, stdout.read(), stderr.read())

    def expect_error(self, *arguments: str, **settings: str) -> str:
        """Runs a command that must fail with exit code 1; returns its one-line error."""
        done = self.run(*arguments, **settings)
        assert done.returncode == 1
        assert done.stderr.splitlines() == [done.stderr.strip()]
        return done.stderr

    @contextmanager
    def serving(self, *arguments: str, **settings: str) -> Iterator[Service]:
        """Serves on a free port until the end of the block."""
        with Path(os.devnull).open("w") as stdout:
            process = self.start(
                [*self.serve, "--port", "0", *arguments], self.environment(**settings), stdout, subprocess.PIPE
            )
        assert process.stderr is not None
        startup_log = []
        reader: Thread | None = None
        with process.stderr:
            try:
                for line in process.stderr:
                    startup_log.append(line)
                    if listening := re.search(r"Listening on (http://\S+)", line):
                        # Keep reading: with a full pipe the service would block on its next line.
                        service = Service(process, listening[1])
                        reader = Thread(target=service.log.extend, args=[process.stderr])
                        reader.start()
                        yield service
                        break
                else:
                    pytest.fail("it did not start:\n" + "".join(startup_log))
            finally:
                process.kill()
                process.wait()
                if reader is not None:
                    reader.join()
