"""A service as a process of its own, for tests."""

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
from preloaded import Forked

DEADLINE_SECONDS = 90
"""More than anything takes on a machine that is busy with other things: a test that is green never waits for it."""
FORKS = sys.platform == "linux"
"""macOS's own libraries do not bear it."""

Process: TypeAlias = subprocess.Popen[Any] | Forked


def eventually(look: Callable[[], object], what: str, *, seconds: float = DEADLINE_SECONDS) -> None:
    """Returns once `look` finds something; fails with `what` when that takes too long."""
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)


class Service:
    """The service while it serves."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.url = url
        self.log: list[str] = []
        """What it said since it listens; complete once it has ended."""

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(sig)
        return self.process.wait(DEADLINE_SECONDS)


class Program:
    """What `python -m PACKAGE` runs.

    prefix: of its settings. sources: the folders that its code is imported from, and that of the chassis.
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
        """Starts it in a session of its own, with its imports done if it may be forked."""
        # What is no setting of the service may be one of the interpreter or of the C library, which a fork never asks.
        of_others = {name for name in env if env[name] != os.environ.get(name)} - {"PYTHONPATH"}
        if FORKS and all(name.startswith(self.prefix) for name in of_others):
            return Forked(command, env, stdout, stderr, preloaded=f"{self.package}.__main__", path=self.path)
        return subprocess.Popen(
            command, env=env, stdout=stdout, stderr=stderr, text=stderr == subprocess.PIPE, start_new_session=True
        )

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of the service to its end."""
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            process = self.start([*self.command, *arguments], self.environment(**settings), stdout, stderr)
            try:
                code = process.wait(DEADLINE_SECONDS)
            finally:
                process.kill()
            for file in (stdout, stderr):
                file.seek(0)
            return subprocess.CompletedProcess(process.args, code, stdout.read(), stderr.read())

    def refused(self, *arguments: str, **settings: str) -> str:
        """What it says of a command that it cannot run: one line."""
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
        said = []
        reader: Thread | None = None
        with process.stderr:
            try:
                for line in process.stderr:
                    said.append(line)
                    if listening := re.search(r"Listening on (http://\S+)", line):
                        # Read on: with a full pipe the service would stand still at its next line.
                        service = Service(process, listening[1])
                        reader = Thread(target=service.log.extend, args=[process.stderr])
                        reader.start()
                        yield service
                        break
                else:
                    pytest.fail("it did not start:\n" + "".join(said))
            finally:
                process.kill()
                process.wait()
                if reader is not None:
                    reader.join()
