"""A fault, the clients that run during it, and the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx2

from acknowledged.clients import Client, Connect, Reader, Updater, Writer
from acknowledged.history import History
from acknowledged.judge import Verdict, judge
from acknowledged.row import Row

READY_SECONDS = 120.0


class Trial:
    """Running clients; `mark_fault` records a fault. The verdict is available at the end."""

    def __init__(self, connect: Connect, *, writers: int, updaters: int, readers: int) -> None:
        self.history = History()
        self.verdict = Verdict()
        self.connect = connect
        self.project = f"trial-{uuid4().hex[:12]}"
        with connect() as http:
            self.since: str = _json(http.get("/v1/changes?since=now"))["next_since"]
            shared = [
                _json(http.post("/v1/tasks", json={"title": f"shared {n}", "project": self.project}))["id"]
                for n in range(3)
            ]
        known = list(shared)
        common = (connect, self.history, self.project)
        self.clients: list[Client] = [
            *(Writer(f"writer-{n}", *common, known) for n in range(writers)),
            *(Updater(f"updater-{n}", *common, shared) for n in range(updaters)),
            *(Reader(f"reader-{n}", *common, known) for n in range(readers)),
        ]

    def mark_fault(self, name: str) -> None:
        """Records the start of a fault."""
        self.history.mark_fault(name)

    def wait_until_recovered(self, times: int = 20, *, seconds: float = READY_SECONDS) -> None:
        """Returns once every client got this number of consecutive expected responses."""
        for client in self.clients:
            client.consecutive_successes = 0
        deadline = time.monotonic() + seconds
        while late := [client.name for client in self.clients if client.consecutive_successes < times]:
            for client in self.clients:
                assert client.crashed is None, f"{client.name} crashed: {client.crashed!r}"
            recent = "\n".join(f"{a.ended:.2f} s {a.client} {a.kind}: {a.result}" for a in self.history.failures[-10:])
            assert time.monotonic() < deadline, f"{late} did not recover within {seconds:.0f} s:\n{recent}"
            time.sleep(0.05)

    def failures(self) -> list[str]:
        """The requests without an expected response, for assertion messages."""
        return [f"{a.ended:.2f} s {a.client} {a.kind}: {a.result}" for a in self.history.failures]


@contextmanager
def trial(
    connect: Connect, history_file: Path, *, writers: int = 4, updaters: int = 2, readers: int = 2
) -> Iterator[Trial]:
    """Clients that are healthy at the start of the block, must recover by its end, and are judged after it."""
    running = Trial(connect, writers=writers, updaters=updaters, readers=readers)
    for client in running.clients:
        client.start()
    try:
        running.wait_until_recovered(5)
        yield running
        running.wait_until_recovered()
    finally:
        for client in running.clients:
            client.stop()
        for client in running.clients:
            client.join(timeout=READY_SECONDS)
        running.history.write(history_file)
    for client in running.clients:
        assert not client.is_alive(), (
            f"{client.name} did not stop: its current operation would be missing from the verdict"
        )
        assert client.crashed is None, f"{client.name} crashed: {client.crashed!r}"
    with connect() as http:
        running.verdict = judge(running.history, http, project=running.project, since=running.since)
    with history_file.open("a") as lines:
        lines.write(f'{{"verdict": "{running.verdict}"}}\n')


@contextmanager
def judged(
    fault: str, connect: Connect, history_file: Path, keep: Callable[[Row], None], *, graceful: bool = False
) -> Iterator[Trial]:
    """A trial that fails if the guarantee is violated, and passes its row to `keep` in any case.

    graceful: no request may fail.
    """
    running, completed = None, False
    try:
        with trial(connect, history_file) as running:
            yield running
        completed = True
    finally:
        history, verdict = (running.history, running.verdict) if running else (History(), Verdict())
        held = not (verdict.violations or verdict.unknown or (graceful and history.failures))
        keep(Row.of(fault, "incomplete" if not completed else "held" if held else "violated", history, verdict))
    message = f"{verdict}; the history is in {history_file}"
    assert verdict.violations == [], message
    assert verdict.unknown == 0, message
    assert verdict.acknowledged > 0, message
    if graceful:
        assert running.failures() == [], f"no client may notice this; the history is in {history_file}"


def _json(response: httpx2.Response) -> dict[str, str]:
    assert response.is_success, f"{response.request.url}: {response.status_code} {response.text}"
    document: dict[str, str] = response.json()
    return document
