"""What is counted of a database, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from chassis.metrics import SECONDS


class DatabaseMetrics:
    """Of the one database that a service has. There can be one of each name in a process.

    namespace: what the names begin with, as in task_api_db_retries_total.
    """

    def __init__(self, namespace: str) -> None:
        self.pool_max = Gauge(f"{namespace}_db_pool_max_connections", "Connections to the database that there may be")
        self.pool_open = Gauge(f"{namespace}_db_pool_connections", "Connections to the database that are open")
        self.pool_idle = Gauge(f"{namespace}_db_pool_idle_connections", "Open connections that nobody uses")
        self.pool_waiting = Gauge(f"{namespace}_db_pool_waiting", "Requests that wait for a connection")
        self.pool_acquire_seconds = Histogram(
            f"{namespace}_db_pool_acquire_seconds",
            "How long requests waited for a connection",
            buckets=(0.001, *SECONDS),
        )
        self.retries_total = Counter(
            f"{namespace}_db_retries", "Database work done again, by what ended it before", ["sqlstate"]
        )
        self.rejected_total = Counter(f"{namespace}_db_rejected", "Requests answered 503 since too many waited already")
        self.held_commits = Gauge(
            f"{namespace}_db_held_commits", "Commits that the database still holds and nobody waits for, as last seen"
        )
