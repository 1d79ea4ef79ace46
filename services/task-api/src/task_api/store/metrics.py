"""What the storage counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from chassis.metrics import SECONDS

pool_max = Gauge("task_api_db_pool_max_connections", "Connections to the database that there may be")
pool_open = Gauge("task_api_db_pool_connections", "Connections to the database that are open")
pool_idle = Gauge("task_api_db_pool_idle_connections", "Open connections that nobody uses")
pool_waiting = Gauge("task_api_db_pool_waiting", "Requests that wait for a connection")
pool_acquire_seconds = Histogram(
    "task_api_db_pool_acquire_seconds", "How long requests waited for a connection", buckets=(0.001, *SECONDS)
)
db_retries_total = Counter("task_api_db_retries", "Database work done again, by what ended it before", ["sqlstate"])
db_rejected_total = Counter("task_api_db_rejected", "Requests answered 503 since too many waited already")
