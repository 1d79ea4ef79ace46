"""One fault, the clients that live through it, and the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx2

from acknowledged.clients import Changer, Client, Connect, Reader, Writer
from acknowledged.history import History
from acknowledged.judge import Verdict, judge
from acknowledged.row import Row

READY_SECONDS = 120.0


class Trial:
    """Running clients; `strike` records a fault. The verdict is available at the end."""

    def __init__(self, connect: Connect, *, writers: int, changers: int, readers: int) -> None:
        self.history = History()
        self.verdict = Verdict()
        self.connect = connect
        self.project = f"trial-{uuid4().hex[:12]}"
        with connect() as http:
            self.since: str = _prepared(http.get("/v1/changes?since=now"))["next_since"]
            shared = [
                _prepared(http.post("/v1/tasks", json={"title": f"shared {n}", "project": self.project}))["id"]
                for n in range(3)
            ]
        known = list(shared)
        common = (connect, self.history, self.project)
        self.clients: list[Client] = [
            *(Writer(f"writer-{n}", *common, known) for n in range(writers)),
            *(Changer(f"changer-{n}", *common, shared) for n in range(changers)),
            *(Reader(f"reader-{n}", *common, known) for n in range(readers)),
        ]

    def strike(self, what: str) -> None:
        """Records the start of a fault."""
        self.history.strike(what)

    def go_on(self, times: int = 20, *, seconds: float = READY_SECONDS) -> None:
        """Returns once every client got so many good responses in a row."""
        for client in self.clients:
            client.good_in_a_row = 0
        deadline = time.monotonic() + seconds
        while late := [client.name for client in self.clients if client.good_in_a_row < times]:
            for client in self.clients:
                assert client.crashed is None, f"{client.name} ended: {client.crashed!r}"
            last = "\n".join(f"{a.ended:.2f} s {a.client} {a.kind}: {a.answer}" for a in self.history.failures[-10:])
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {times} good answers for {late}\n{last}"
            time.sleep(0.05)

    def failures(self) -> list[str]:
        """The requests without an expected response, for assertion messages."""
        return [f"{a.ended:.2f} s {a.client} {a.kind}: {a.answer}" for a in self.history.failures]


@contextmanager
def trial(
    connect: Connect, history_file: Path, *, writers: int = 4, changers: int = 2, readers: int = 2
) -> Iterator[Trial]:
    """Clients that are healthy at the start of the block, must recover by its end, and are judged after it."""
    running = Trial(connect, writers=writers, changers=changers, readers=readers)
    for client in running.clients:
        client.start()
    try:
        running.go_on(5)
        yield running
        running.go_on()
    finally:
        for client in running.clients:
            client.end()
        for client in running.clients:
            client.join(timeout=READY_SECONDS)
        running.history.write(history_file)
    for client in running.clients:
        assert not client.is_alive(), f"{client.name} did not end: what it still does would be judged half"
        assert client.crashed is None, f"{client.name} ended: {client.crashed!r}"
    with connect() as http:
        running.verdict = judge(running.history, http, project=running.project, since=running.since)
    with history_file.open("a") as lines:
        lines.write(f'{{"verdict": "{running.verdict}"}}\n')


@contextmanager
def judged(
    fault: str, connect: Connect, history_file: Path, keep: Callable[[Row], None], *, graceful: bool = False
) -> Iterator[Trial]:
    """A trial that fails on a broken promise, and whose row is kept in any case.

    graceful: no request may fail.
    """
    running, ended = None, False
    try:
        with trial(connect, history_file) as running:
            yield running
        ended = True
    finally:
        history, verdict = (running.history, running.verdict) if running else (History(), Verdict())
        whole = not (verdict.broken_promises or verdict.unknown or (graceful and history.failures))
        keep(Row.of(fault, "did not end" if not ended else "kept" if whole else "broken", history, verdict))
    seen = f"{verdict}; the history is in {history_file}"
    assert verdict.broken_promises == [], seen
    assert verdict.unknown == 0, seen
    assert verdict.acknowledged > 0, seen
    if graceful:
        assert running.failures() == [], f"no client may notice this; the history is in {history_file}"


def _prepared(response: httpx2.Response) -> dict[str, str]:
    assert response.is_success, f"{response.request.url}: {response.status_code} {response.text}"
    prepared: dict[str, str] = response.json()
    return prepared
