"""How many callers may wait for PostgreSQL, whatever it is that they wait for."""

from __future__ import annotations

from collections.abc import Sized

from chassis.postgres.metrics import DatabaseMetrics
from chassis.storage import StoreBusy


class WaitLimit:
    """Counts those who wait in several queues together: for a connection (pool.py), and to join a read (joined.py).

    queue_size: how many there may be. pool_size: of how many connections they wait for one.
    """

    def __init__(self, queue_size: int, pool_size: int, metrics: DatabaseMetrics) -> None:
        self._queue_size = queue_size
        self._pool_size = pool_size
        self._queues: list[Sized] = []
        self._rejected = metrics.rejected_total
        self.observe = metrics.pool_acquire_seconds.observe
        """To be told of each who does not wait any more, and for how many seconds it did."""
        metrics.pool_waiting.set_function(lambda: sum(map(len, self._queues)))

    def count(self, queue: Sized) -> None:
        """Counts those in `queue`, from now on."""
        self._queues.append(queue)

    def admit(self) -> None:
        """Raises StoreBusy where nobody may wait any more."""
        if sum(map(len, self._queues)) >= self._queue_size:
            self._rejected.inc()
            raise StoreBusy(f"{self._queue_size} requests wait for one of {self._pool_size} connections already")

    def too_late(self) -> StoreBusy:
        """What to raise where somebody waited for as long as it may."""
        self._rejected.inc()
        return StoreBusy(f"none of {self._pool_size} connections came free in time")
