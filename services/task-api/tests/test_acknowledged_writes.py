"""An acknowledged write is never lost or applied twice, however the process ends; and planted bugs are detected."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from acknowledged.processes import Process, client_of, kill_repeatedly, serving_process
from acknowledged.row import Row
from acknowledged.trial import judged, trial
from balancer import Balancer
from running import SERVE, environment, start

KILLS = 3
PROPAGATION_SECONDS = 0.3
"""How long a terminating process still gets new connections, as a pod does until every proxy has updated its
endpoints."""

PLANTED = [sys.executable, str(Path(__file__).parent / "planted.py")]


def process(command: list[str], log: Path, **settings: str) -> AbstractContextManager[Process]:
    """A process that serves until the end of the block."""
    return serving_process(command, environment(**settings), log, start)


@pytest.mark.timeout(600)
def test_a_process_killed_during_writes_loses_no_acknowledged_write(
    tmp_path: Path, keep: Callable[[Row], None]
) -> None:
    database = tmp_path / "tasks.db"
    with process(SERVE, tmp_path / "log", TASKS_DATABASE_URL=f"sqlite:///{database}") as service:
        fault = f"process on SQLite: SIGKILL, {KILLS} times"
        with judged(fault, service.client, tmp_path / "history.jsonl", keep) as running:
            kill_repeatedly(running, service, KILLS, database)
        assert running.history.failures, "no client noticed that the process was killed"


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("bug", "seen", "storage"),
    [
        ("acknowledge-before-commit", "lost", "sqlite"),
        ("acknowledge-group-before-commit", "lost", "sqlite"),
        pytest.param("acknowledge-group-before-commit", "lost", "postgresql", marks=pytest.mark.postgresql),
        ("response-outside-the-transaction", "duplicated", "sqlite"),
    ],
)
def test_a_planted_durability_bug_is_detected(
    bug: str, seen: str, storage: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    database = tmp_path / "tasks.db" if storage == "sqlite" else None
    url = f"sqlite:///{database}" if database else request.getfixturevalue("postgres_url")
    with process([*PLANTED, bug, "serve"], tmp_path / "log", TASKS_DATABASE_URL=url) as service:
        # No updaters: two of them would detect the missing If-Match check at once.
        with trial(service.client, tmp_path / "history.jsonl", writers=8, updaters=0, readers=0) as running:
            kill_repeatedly(running, service, KILLS, database, writes=20)  # by then they run concurrently
        assert getattr(running.verdict, seen), f"{bug} went unseen: {running.verdict}"


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("command", "drains"), [(SERVE, True), ([*PLANTED, "no-drain", "serve"], False)])
def test_a_rollout_fails_no_request_unless_the_drain_is_disabled(
    command: list[str], drains: bool, postgres_url: str, tmp_path: Path
) -> None:
    settings = {"TASKS_DATABASE_URL": postgres_url, "TASKS_DRAIN_SECONDS": "1.5"}
    with contextlib.ExitStack() as stack:
        balancer = stack.enter_context(Balancer().running())
        old = [Process(command, environment(**settings), tmp_path / f"old-{n}", start) for n in range(2)]
        for each in old:
            each.start()
            stack.callback(each.kill)
        for each in old:
            each.wait_until_ready()
        balancer.backends = [each.port for each in old]
        with trial(functools.partial(client_of, balancer.url), tmp_path / "history.jsonl") as running:
            for n, ending in enumerate(old):
                new = stack.enter_context(process(command, tmp_path / f"new-{n}", **settings))
                balancer.backends = [*balancer.backends, new.port]
                running.mark_fault("SIGTERM")
                ending.send(signal.SIGTERM)
                time.sleep(PROPAGATION_SECONDS)  # no wait: the delay of the update is what is tested
                balancer.backends = [port for port in balancer.backends if port != ending.port]
                assert ending.wait() == 0
    assert running.verdict.violations == []
    assert running.verdict.unknown == 0
    if drains:
        assert running.failures() == []
    else:
        assert running.failures() != [], "the missing drain went unseen"
