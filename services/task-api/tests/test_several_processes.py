"""Several processes on one PostgreSQL behind a balancer, as pods behind a Service: one is killed or paused."""

from __future__ import annotations

import contextlib
import functools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from acknowledged.processes import Process, client_of
from acknowledged.row import Row
from acknowledged.trial import judged
from balancer import Balancer
from running import SERVE, environment, eventually, start

PROCESSES = 3
IMPATIENCE_SECONDS = 1.5
"""How long a client waits for the paused process."""


@pytest.fixture
def processes(postgres_url: str, tmp_path: Path) -> Iterator[list[Process]]:
    settings = environment(TASKS_DATABASE_URL=postgres_url)
    with contextlib.ExitStack() as stack:
        made = [Process(SERVE, settings, tmp_path / f"log-{n}", start) for n in range(PROCESSES)]
        for each in made:
            each.start()
            stack.callback(each.kill)
        for each in made:
            each.wait_until_ready()
        yield made


@pytest.fixture
def balancer(processes: list[Process]) -> Iterator[Balancer]:
    with Balancer().running() as balancer:
        balancer.backends = [each.port for each in processes]
        yield balancer


@pytest.mark.timeout(600)
def test_killing_one_of_several_processes_loses_nothing(
    processes: list[Process], balancer: Balancer, tmp_path: Path, keep: Callable[[Row], None]
) -> None:
    connect = functools.partial(client_of, balancer.url)
    fault = f"processes: SIGKILL of one of {PROCESSES}"
    with judged(fault, connect, tmp_path / "history.jsonl", keep) as running:
        running.mark_fault("SIGKILL")
        processes[0].kill()
        eventually(lambda: running.history.failures, "a client notices")
        balancer.backends = [each.port for each in processes[1:]]
        running.wait_until_recovered(5)
        processes[0].start()
        processes[0].wait_until_ready()
        balancer.backends = [each.port for each in processes]


@pytest.mark.full
@pytest.mark.timeout(600)
def test_a_paused_process_repeats_nothing_when_it_resumes(
    processes: list[Process], balancer: Balancer, tmp_path: Path, keep: Callable[[Row], None]
) -> None:
    """It executes pending requests when it resumes, after the client has retried with another process."""

    def connect() -> httpx2.Client:
        return httpx2.Client(base_url=balancer.url, timeout=IMPATIENCE_SECONDS)

    fault = f"processes: SIGSTOP of one of {PROCESSES}"
    with judged(fault, connect, tmp_path / "history.jsonl", keep) as running:
        running.mark_fault("SIGSTOP")
        processes[0].send(signal.SIGSTOP)
        try:
            eventually(lambda: running.history.failures, "a client gives up waiting")
            balancer.backends = [each.port for each in processes[1:]]
            running.wait_until_recovered(5)
        finally:
            processes[0].send(signal.SIGCONT)
        processes[0].wait_until_ready()
        balancer.backends = [each.port for each in processes]
