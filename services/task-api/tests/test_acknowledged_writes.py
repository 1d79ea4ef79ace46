"""An acknowledged write is never lost and never done twice, whatever ends the process; and planted bugs are seen."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import httpx2
import pytest
from acknowledged.processes import Process, kill_in_a_loop, serving_process
from acknowledged.trial import trial
from balancer import Balancer
from running import environment

KILLS = 3
PROPAGATION_SECONDS = 0.3
"""For so long a process that ends still gets new connections, as a pod does until every proxy has heard of it."""

SERVE = [sys.executable, "-m", "task_api", "serve"]
PLANTED = [sys.executable, str(Path(__file__).parent / "planted.py")]


def process(command: list[str], log: Path, **settings: str) -> AbstractContextManager[Process]:
    """A process that serves until the end of the block."""
    return serving_process(command, environment(**settings), log)


def client(url: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, timeout=10)


@pytest.mark.timeout(180)
def test_a_process_that_is_killed_while_it_writes_loses_nothing(tmp_path: Path) -> None:
    database = tmp_path / "tasks.db"
    with process(SERVE, tmp_path / "log", TASKS_DATABASE_URL=f"sqlite:///{database}") as service:
        with trial(lambda: client(service.url), tmp_path / "history.jsonl") as running:
            kill_in_a_loop(running, service, KILLS)
        assert running.verdict.broken_promises == []
        assert running.verdict.unknown == 0
        assert running.verdict.acknowledged > KILLS
        assert running.history.failures, "nobody noticed that the process was killed"
    with contextlib.closing(sqlite3.connect(database)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("bug", "seen"), [("acknowledge-before-commit", "lost"), ("answer-outside-the-transaction", "duplicated")]
)
def test_a_bug_that_breaks_the_promise_is_seen(bug: str, seen: str, tmp_path: Path) -> None:
    settings = {"TASKS_DATABASE_URL": f"sqlite:///{tmp_path}/tasks.db"}
    with process([*PLANTED, bug, "serve"], tmp_path / "log", **settings) as service:
        # Nobody changes tasks: two changers would be told at once that neither was first.
        with trial(
            lambda: client(service.url), tmp_path / "history.jsonl", writers=8, changers=0, readers=0
        ) as running:
            kill_in_a_loop(running, service, KILLS)
        assert getattr(running.verdict, seen), f"{bug} went unseen: {running.verdict}"


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("command", "drains"), [(SERVE, True), ([*PLANTED, "no-drain", "serve"], False)])
def test_a_rollout_fails_no_request_unless_the_drain_is_missing(
    command: list[str], drains: bool, postgres_url: str, tmp_path: Path
) -> None:
    settings = {"TASKS_DATABASE_URL": postgres_url, "TASKS_DRAIN_SECONDS": "1.5"}
    with contextlib.ExitStack() as stack:
        balancer = stack.enter_context(Balancer().running())
        old = [Process(command, environment(**settings), tmp_path / f"old-{n}") for n in range(2)]
        for each in old:
            each.start()
            stack.callback(each.kill)
        for each in old:
            each.wait_until_ready()
        balancer.backends = [each.port for each in old]
        with trial(lambda: client(balancer.url), tmp_path / "history.jsonl") as running:
            for n, ending in enumerate(old):
                new = stack.enter_context(process(command, tmp_path / f"new-{n}", **settings))
                balancer.backends = [*balancer.backends, new.port]
                running.strike("SIGTERM")
                ending.terminate()
                time.sleep(PROPAGATION_SECONDS)  # no wait: how late the news comes is what is tested
                balancer.backends = [port for port in balancer.backends if port != ending.port]
                assert ending.wait() == 0
    assert running.verdict.broken_promises == []
    assert running.verdict.unknown == 0
    if drains:
        assert running.failures() == []
    else:
        assert running.failures() != [], "the missing drain went unseen"
