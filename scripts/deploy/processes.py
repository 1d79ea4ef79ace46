"""Commands, the signals that come meanwhile, and the ways in which it ends early."""

from __future__ import annotations

import signal
import subprocess
import time
from types import FrameType

signals_received: list[int] = []


class Refused(Exception):
    """Nothing was done, for a reason that the message gives."""


class Failed(Exception):
    """Something was tried and failed."""


class Cancelled(Exception):
    """A signal asked for the end."""


def remember_signals() -> None:
    """From here on SIGINT and SIGTERM end nothing by themselves: `run` and `wait` raise Cancelled."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _remember)


def _remember(signum: int, _frame: FrameType | None) -> None:
    signals_received.append(signum)


def run(*command: str, show: bool = False) -> subprocess.CompletedProcess[str]:
    """The command's outcome. Signals are passed on to it, and it is given the time to end by itself: `helm upgrade`
    then marks the revision as failed, where killed it would leave it pending. `helm rollback` does not: what a signal
    leaves of it is pending, and `settle` takes that up. After a signal nothing is begun any more."""
    if signals_received:
        raise Cancelled
    pipe = None if show else subprocess.PIPE
    passed_on = 0
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        while True:
            try:
                output, errors = process.communicate(timeout=0.1)
                break
            except subprocess.TimeoutExpired:
                if len(signals_received) > passed_on:
                    passed_on = len(signals_received)
                    process.terminate()
    if signals_received:
        raise Cancelled
    return subprocess.CompletedProcess(command, process.returncode, output or "", errors or "")


def wait(seconds: float) -> None:
    """Raises Cancelled where a signal comes before the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if signals_received:
            raise Cancelled
        time.sleep(min(0.1, seconds))


def must(*command: str) -> str:
    """What the command prints. Raises Failed where it fails."""
    done = run(*command)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command[:3])} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
