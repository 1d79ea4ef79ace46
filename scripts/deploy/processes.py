"""Commands, the signals that come meanwhile, and the ways in which it ends early."""

from __future__ import annotations

import signal
import subprocess
import time
from types import FrameType

ANSWER_LIMIT = 60
"""Seconds after which a command that only asks the cluster something is ended."""
REPORT_EVERY = 10
"""Seconds between two lines about a command that still runs."""
KILL_AFTER = 10
"""Seconds that a command has to end after it was asked to."""

signals_received: list[int] = []
_lost_locks: list[str] = []


class Refused(Exception):
    """Nothing was done, for a reason that the message gives."""


class Failed(Exception):
    """Something was tried and failed."""


class Cancelled(Exception):
    """A signal asked for the end."""


class LockLost(Exception):
    """Somebody else may deploy by now, so nothing more may be changed here, not even back."""


def remember_signals() -> None:
    """From here on SIGINT and SIGTERM end nothing by themselves: `run` and `wait` raise Cancelled."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _remember)


def _remember(signum: int, _frame: FrameType | None) -> None:
    signals_received.append(signum)


def stop_for_lost_lock(reason: str) -> None:
    """From here on `run` and `wait` raise LockLost, and a command that runs is asked to end, as for a signal."""
    _lost_locks.append(reason)


def _raise_if_stopped() -> None:
    if _lost_locks:
        raise LockLost(_lost_locks[0])
    if signals_received:
        raise Cancelled


def run(*command: str, show: bool = False, limit: float = ANSWER_LIMIT) -> subprocess.CompletedProcess[str]:
    """The command's outcome. Signals are passed on to it, and it is given the time to end by itself: `helm upgrade`
    then marks the revision as failed, where killed it would leave it pending. `helm rollback` does not: what a signal
    leaves of it is pending, and `settle` takes that up. After a signal nothing is begun any more.

    Says every ten seconds that it still runs. After `limit` seconds it is ended, and this raises Failed."""
    _raise_if_stopped()
    pipe = None if show else subprocess.PIPE
    name = " ".join(command[:3])
    started = time.monotonic()
    next_report, asked_to_end, timed_out, killed, end = REPORT_EVERY, 0, False, False, limit + KILL_AFTER
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        while True:
            try:
                output, errors = process.communicate(timeout=0.1)
                break
            except subprocess.TimeoutExpired:
                elapsed = time.monotonic() - started
            if killed and process.poll() is not None:
                output = errors = ""  # a child of it still holds the pipes, as a plugin for credentials that hangs
                break
            if elapsed >= next_report:
                print(f"{name}: {elapsed:.0f} s", flush=True)
                next_report += REPORT_EVERY
            timed_out = elapsed >= limit
            reasons = len(signals_received) + len(_lost_locks) + timed_out
            if reasons > asked_to_end:
                asked_to_end = reasons
                process.terminate()
            if _lost_locks:
                end = min(end, elapsed + KILL_AFTER)  # before another deployer may begin
            if elapsed >= end and not killed:
                killed = True
                process.kill()
    _raise_if_stopped()
    if timed_out:
        raise Failed(
            f"{name} had not ended after {limit:.0f} s and was stopped. Does the API server answer? "
            "Try: kubectl get --raw /readyz. Then run the same command again."
        )
    return subprocess.CompletedProcess(command, process.returncode, output or "", errors or "")


def wait(seconds: float) -> None:
    """Raises Cancelled where a signal comes before the time is over, and LockLost where the lock is lost."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        _raise_if_stopped()
        time.sleep(min(0.1, seconds))


def must(*command: str, limit: float = ANSWER_LIMIT) -> str:
    """What the command prints. Raises Failed where it fails."""
    done = run(*command, limit=limit)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command[:3])} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
