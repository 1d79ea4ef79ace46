"""The service as a process of its own, for the tests beside this file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

SERVICE = Path(__file__).parent.parent
DEADLINE_SECONDS = 30
SERVE = [sys.executable, "-m", "task_api", "serve"]


def eventually(look: Callable[[], object], what: str, *, seconds: float = DEADLINE_SECONDS) -> None:
    """Returns once `look` finds something; fails with `what` when that takes too long."""
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)


def environment(**settings: str) -> dict[str, str]:
    """The environment of a process of the service, with these settings."""
    return {**os.environ, "PYTHONPATH": str(SERVICE / "src"), **settings}


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of the service to its end."""
    return subprocess.run(
        [sys.executable, "-m", "task_api", *arguments],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )


class Service:
    """The service while it serves."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self.log: list[str] = []
        """What it said since it listens; complete once it has ended."""

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(sig)
        return self.process.wait(DEADLINE_SECONDS)


@contextmanager
def serving(**settings: str) -> Iterator[Service]:
    """Serves on a free port until the end of the block."""
    process = subprocess.Popen(
        [*SERVE, "--port", "0"],
        env=environment(**settings),
        stderr=subprocess.PIPE,
        text=True,
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
