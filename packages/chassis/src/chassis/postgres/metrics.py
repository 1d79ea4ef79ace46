"""Prometheus metrics of a database."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from chassis.metrics import SECONDS


class DatabaseMetrics:
    """The metrics of the one database that a service has. Each namespace can be used once per process.

    namespace: the prefix of the metric names, as in task_api_db_retries_total.
    """

    def __init__(self, namespace: str) -> None:
        self.pool_max = Gauge(f"{namespace}_db_pool_max_connections", "Maximum number of database connections")
        self.pool_open = Gauge(f"{namespace}_db_pool_connections", "Open database connections")
        self.pool_idle = Gauge(f"{namespace}_db_pool_idle_connections", "Idle database connections")
        self.pool_waiting = Gauge(f"{namespace}_db_pool_waiting", "Requests waiting for a database connection")
        self.pool_acquire_seconds = Histogram(
            f"{namespace}_db_pool_acquire_seconds",
            "Time that requests waited for a database connection",
            buckets=(0.001, *SECONDS),
        )
        self.retries_total = Counter(
            f"{namespace}_db_retries",
            "Retries of database operations, by the error of the failed attempt",
            ["sqlstate"],
        )
        self.rejected_total = Counter(
            f"{namespace}_db_rejected",
            "Requests rejected with 503 because too many were waiting, they waited too long, or commits are stuck",
        )
        self.held_commits = Gauge(
            f"{namespace}_db_held_commits",
            "Commits still pending in the database after their client gave up, as last seen",
        )
