"""Runs commands, and handles signals, timeouts and a lost lock while they run."""

from __future__ import annotations

import signal
import subprocess
import time
from types import FrameType

QUERY_TIMEOUT = 60
"""Seconds after which a command that only queries the cluster is terminated."""
REPORT_EVERY = 10
"""Seconds between two progress lines of a running command."""
KILL_AFTER = 10
"""Seconds between SIGTERM and SIGKILL."""

signals_received: list[int] = []
_lost_locks: list[tuple[str, float]] = []


class Refused(Exception):
    """Nothing was changed, for the reason in the message."""


class Failed(Exception):
    """An operation was attempted and failed."""


class Cancelled(Exception):
    """A signal was received."""


class LockLost(Exception):
    """Another deployer may be running, so nothing more may be changed here, not even rolled back."""


def install_signal_handlers() -> None:
    """From here on SIGINT and SIGTERM do not end the process: `run` and `wait` raise Cancelled."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _record_signal)


def _record_signal(signum: int, _frame: FrameType | None) -> None:
    signals_received.append(signum)


def stop_for_lost_lock(reason: str, kill_after: float) -> None:
    """From here on `run` and `wait` raise LockLost, and a running command is terminated, as for a signal.

    One that has not ended `kill_after` seconds later is killed, since another deployer may begin.
    """
    _lost_locks.append((reason, kill_after))


def _raise_if_stopped() -> None:
    if _lost_locks:
        raise LockLost(_lost_locks[0][0])
    if signals_received:
        raise Cancelled


def run(*command: str, show: bool = False, timeout: float = QUERY_TIMEOUT) -> subprocess.CompletedProcess[str]:
    """The command's result. Forwards signals to it and lets it exit: `helm upgrade` then marks the revision as failed,
    where SIGKILL would leave it pending. `helm rollback` does not: a signal leaves its revision pending, and
    `settle` recovers that. After a signal no command is started any more.

    Prints a progress line every ten seconds. After `timeout` seconds the command is terminated, and this raises
    Failed.
    """
    _raise_if_stopped()
    pipe = None if show else subprocess.PIPE
    name = " ".join(command[:3])
    started = time.monotonic()
    next_report, handled_reasons, timed_out, kill_at = REPORT_EVERY, 0, False, timeout + KILL_AFTER
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        while True:
            try:
                output, errors = process.communicate(timeout=0.1)
                break
            except subprocess.TimeoutExpired:
                elapsed = time.monotonic() - started
            if handled_reasons and process.poll() is not None:
                output = errors = ""  # a child process, such as a hanging credential plugin, still holds the pipes
                break
            if elapsed >= next_report:
                print(f"{name}: still running after {elapsed:.0f} s", flush=True)
                next_report += REPORT_EVERY
            timed_out = elapsed >= timeout
            reasons = len(signals_received) + len(_lost_locks) + timed_out
            if reasons > handled_reasons:
                handled_reasons = reasons
                process.terminate()
            if _lost_locks:
                kill_at = min(kill_at, elapsed + _lost_locks[0][1])
            if elapsed >= kill_at:
                process.kill()
    _raise_if_stopped()
    if timed_out:
        raise Failed(
            f"{name} timed out after {timeout:.0f} s. Does the API server respond? "
            "Try: kubectl get --raw /readyz. Then run the same command again."
        )
    return subprocess.CompletedProcess(command, process.returncode, output or "", errors or "")


def wait(seconds: float) -> None:
    """Raises Cancelled if a signal arrives before the time is over, and LockLost if the lock is lost."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        _raise_if_stopped()
        time.sleep(min(0.1, seconds))


def check_output(*command: str, timeout: float = QUERY_TIMEOUT) -> str:
    """The command's standard output. Raises Failed if it fails."""
    result = run(*command, timeout=timeout)
    if result.returncode != 0:
        raise Failed(f"{' '.join(command[:3])} failed: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout
