"""The limit on calls that wait for PostgreSQL, in whichever queue they wait."""

from __future__ import annotations

from collections.abc import Sized

from chassis.postgres.metrics import DatabaseMetrics
from chassis.storage import StoreBusy


class WaitLimit:
    """One limit for several wait queues: for a connection (pool.py), and for the next batch (batching.py).

    max_waiting: the maximum number of waiters in all queues together.
    """

    def __init__(self, max_waiting: int, metrics: DatabaseMetrics) -> None:
        self._max_waiting = max_waiting
        self._queues: list[Sized] = []
        self._rejected = metrics.rejected_total
        self.observe = metrics.pool_acquire_seconds.observe
        """To be called with the wait time, in seconds, of each call that stops waiting."""
        metrics.pool_waiting.set_function(lambda: sum(map(len, self._queues)))

    def add_queue(self, queue: Sized) -> None:
        """Counts the waiters in `queue` from now on."""
        self._queues.append(queue)

    def admit(self) -> None:
        """Raises StoreBusy if the limit is reached."""
        if sum(map(len, self._queues)) >= self._max_waiting:
            self._rejected.inc()
            raise StoreBusy(f"{self._max_waiting} requests are already waiting for PostgreSQL")

    def timed_out(self, message: str) -> StoreBusy:
        """The error to raise for a waiter that reached its deadline. message: what did not happen in time."""
        self._rejected.inc()
        return StoreBusy(message)
