"""How scripts/deploy/processes.py runs commands and ends them: with real ones, which start in milliseconds, and in
simulated time where seconds matter."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest
from scripts.deploy import processes
from scripts.deploy.processes import (
    Cancelled,
    Failed,
    LockLost,
    check_output,
    install_signal_handlers,
    run,
    stop_for_lost_lock,
    wait,
)

STUBBORN = ("bash", "-c", "trap '' TERM; exec sleep 30")
"""A command that ignores SIGTERM."""


@pytest.fixture(autouse=True)
def _no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "signals_received", [])
    monkeypatch.setattr(processes, "_lost_locks", [])


class Clock:
    """Each look at it takes a second, and nothing else takes time, except for sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 1.0
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        self.now += self.step
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(processes, "time", clock)
    return clock


def test_result_has_code_output_and_errors() -> None:
    done = run("bash", "-c", "echo out; echo error >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "error\n")


def test_shown_command_writes_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    done = run("bash", "-c", "echo out; echo error >&2", show=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert tuple(capfd.readouterr()) == ("out\n", "error\n")


@pytest.mark.usefixtures("clock")
def test_hanging_command_is_reported_every_ten_seconds_and_times_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Like kubectl with an API server that accepts connections and never responds, as in e2e/test_deploy.py."""
    with pytest.raises(Failed, match=r"sleep 100 200 timed out after 12 s\. Does the API server respond\?"):
        run("sleep", "100", "200", "300", timeout=12)
    assert capsys.readouterr().out == "sleep 100 200: still running after 10 s\n"


def test_command_that_ignores_its_timeout_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "KILL_AFTER", 0.1)
    with pytest.raises(Failed, match="timed out"):
        run(*STUBBORN, timeout=0.1)


@pytest.mark.parametrize(("reaction", "kill_after"), [("", 10), ("trap '' TERM; ", 0.1)], ids=["terminated", "killed"])
def test_ended_command_is_not_waited_for_by_its_pipes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reaction: str, kill_after: float
) -> None:
    """A child process, such as a hanging credential plugin, still holds them."""
    monkeypatch.setattr(processes, "KILL_AFTER", kill_after)
    ended = tmp_path / "ended"
    plugin = f"(trap '' TERM; sleep 3; touch {ended})"
    with pytest.raises(Failed, match="timed out"):
        run("bash", "-c", f"{reaction}{plugin} & exec sleep 30", timeout=0.1)
    assert not ended.exists()


def test_command_has_time_to_end_after_its_timeout(tmp_path: Path) -> None:
    script = f"trap 'sleep 0.3; touch {tmp_path / 'ended'}; exit 0' TERM; while true; do sleep 0.05; done"
    with pytest.raises(Failed, match="timed out"):
        run("bash", "-c", script, timeout=0.2)
    assert (tmp_path / "ended").exists()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_does_not_end_the_process_but_its_work(signum: signal.Signals) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    install_signal_handlers()
    try:
        signal.raise_signal(signum)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert processes.signals_received == [signum]
    with pytest.raises(Cancelled):
        run("true")


@pytest.mark.parametrize("error", [Cancelled, LockLost])
def test_nothing_is_started_after_a_signal_or_without_the_lock(tmp_path: Path, error: type[Exception]) -> None:
    if error is Cancelled:
        processes.signals_received.append(signal.SIGTERM)
    else:
        stop_for_lost_lock("another took over", 10)
    with pytest.raises(error):
        run("touch", str(tmp_path / "started"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(error):
        wait(60)


def test_command_that_succeeds_after_a_signal_is_cancelled_anyway() -> None:
    threading.Timer(0.2, processes.signals_received.append, [signal.SIGTERM]).start()
    with pytest.raises(Cancelled):
        run("bash", "-c", "trap 'exit 0' TERM; while true; do sleep 0.05; done")


def test_each_signal_is_forwarded(tmp_path: Path) -> None:
    """The second one makes Helm exit at once."""
    received = tmp_path / "received"

    def send() -> None:
        for count in (1, 2):
            processes.signals_received.append(signal.SIGTERM)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and not (received.exists() and len(received.read_text()) == count):
                time.sleep(0.01)

    sending = threading.Thread(target=send)
    script = f"trap 'printf x >> {received}; n=$((n + 1))' TERM; n=0; echo; while ((n < 2)); do sleep 0.05; done"
    threading.Timer(0.3, sending.start).start()
    with pytest.raises(Cancelled):
        run("bash", "-c", script, timeout=20)
    sending.join()
    assert received.read_text() == "xx"


def test_command_has_time_to_end_after_the_lock_is_lost(tmp_path: Path) -> None:
    """Helm marks its revision as failed."""
    threading.Timer(0.2, stop_for_lost_lock, ["another took over", 5]).start()
    script = f"trap 'sleep 0.3; touch {tmp_path / 'ended'}; exit 0' TERM; while true; do sleep 0.05; done"
    with pytest.raises(LockLost):
        run("bash", "-c", script, timeout=5)
    assert (tmp_path / "ended").exists()


def test_command_that_ignores_the_lost_lock_is_killed() -> None:
    """Before another deployer may begin."""
    threading.Timer(0.2, stop_for_lost_lock, ["another took over", 0.2]).start()
    with pytest.raises(LockLost, match="another took over"):
        run(*STUBBORN)


def test_command_that_ignores_a_signal_is_not_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Helm marks its revision as failed first, where SIGKILL would leave it pending."""
    monkeypatch.setattr(processes, "KILL_AFTER", 0.1)
    threading.Timer(0.1, processes.signals_received.append, [signal.SIGTERM]).start()
    with pytest.raises(Cancelled):
        run("bash", "-c", f"trap '' TERM; sleep 0.6; touch {tmp_path / 'ended'}")
    assert (tmp_path / "ended").exists()


def test_first_reason_for_a_lost_lock_is_reported() -> None:
    stop_for_lost_lock("another took over", 10)
    stop_for_lost_lock("it could not be renewed", 10)
    with pytest.raises(LockLost, match="another took over"):
        run("true")


def test_waiting_looks_for_signals_every_tenth_of_a_second(clock: Clock) -> None:
    clock.step = 0
    wait(1)
    assert set(clock.sleeps) == {0.1}
    assert len(clock.sleeps) in (10, 11)  # rounded


@pytest.mark.parametrize(("seconds", "sleeps"), [(0, []), (0.0625, [0.0625])])
def test_waiting_takes_no_longer_than_given(clock: Clock, seconds: float, sleeps: list[float]) -> None:
    clock.step = 0
    wait(seconds)
    assert clock.sleeps == sleeps


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo out; echo error >&2; exit 1", "bash -c echo out; echo error >&2; exit 1 failed: error"),
        ("echo out; exit 1", "bash -c echo out; exit 1 failed: out"),
    ],
)
def test_failed_query_is_named_with_its_error(script: str, message: str) -> None:
    with pytest.raises(Failed) as failure:
        check_output("bash", "-c", script, "a fourth word")
    assert str(failure.value) == message


def test_output_of_a_query_is_returned() -> None:
    assert check_output("echo", "out") == "out\n"
