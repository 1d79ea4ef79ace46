"""The requests of clients and their responses, as seen on the wire."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Outcome = Literal["ok", "failed", "unknown"]
"""ok: acknowledged. failed: definitely not applied. unknown: neither, despite all retries."""


@dataclass(frozen=True)
class Attempt:
    """One request. Times are seconds since the history began."""

    client: str
    kind: str
    began: float
    ended: float
    result: str
    """The status, or the error."""
    expected: bool
    """Whether the response was expected. A 5xx or a broken connection never is."""


@dataclass(frozen=True)
class Operation:
    """One operation of a client, with all its attempts."""

    client: str
    kind: Literal["create", "update"]
    token: str
    """The written value; unique to this operation."""
    outcome: Outcome
    unclear: bool
    """The outcome of an attempt is unknown."""
    task: str | None = None
    version: int | None = None


class History:
    """Appended to by many threads; read after they have ended."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self.began_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.attempts: list[Attempt] = []
        self.operations: list[Operation] = []
        self.faults: list[tuple[float, str]] = []

    def now(self) -> float:
        return time.monotonic() - self._start

    def mark_fault(self, name: str) -> None:
        """Records the start of a fault."""
        self.faults.append((self.now(), name))

    @property
    def failures(self) -> list[Attempt]:
        """The requests without an expected response."""
        return [attempt for attempt in self.attempts if not attempt.expected]

    def longest_gap(self) -> float:
        """The longest time without an acknowledged write, from the first fault on."""
        if not self.faults:
            return 0.0
        first = self.faults[0][0]
        # Reads do not count: nginx retries them on another pod.
        writes = {("create", "201"), ("update", "200")}
        times = [first, *sorted(a.ended for a in self.attempts if (a.kind, a.result) in writes and a.ended > first)]
        return max((after - before for before, after in itertools.pairwise(times)), default=0.0)

    def recovery(self) -> float:
        """The longest time from a fault to the end of a request that failed because of it."""
        fault_times = [self._fault_of(failure) for failure in self.failures]
        return max(
            (failure.ended - at for failure, at in zip(self.failures, fault_times, strict=True) if at is not None),
            default=0.0,
        )

    def _fault_of(self, failure: Attempt) -> float | None:
        """The last fault before the request began; or the first during it, if there was none before."""
        before = [at for at, _ in self.faults if at <= failure.began]
        during = [at for at, _ in self.faults if failure.began < at <= failure.ended]
        if not before:
            return during[0] if during else None
        if during and self._was_served(failure.client, before[-1], failure.began):
            return during[0]
        return before[-1]

    def _was_served(self, client: str, since: float, until: float) -> bool:
        return any(a.expected and a.client == client and since <= a.began and a.ended <= until for a in self.attempts)

    def write(self, file: Path) -> None:
        """Writes it as JSON lines."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w") as lines:
            for line in self._lines():
                lines.write(json.dumps(line) + "\n")

    def _lines(self) -> Iterator[dict[str, object]]:
        yield {"history": self.began_at}
        for at, name in self.faults:
            yield {"fault": name, "at": round(at, 4)}
        for attempt in self.attempts:
            yield {"attempt": asdict(attempt)}
        for operation in self.operations:
            yield {"operation": asdict(operation)}
