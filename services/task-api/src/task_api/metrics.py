"""What the service counts, for Prometheus (https://prometheus.io/docs/practices/naming/)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

# Those of OpenTelemetry's http.server.request.duration.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
LAG_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

CGROUP = Path("/sys/fs/cgroup")

disable_created_metrics()  # a series more for each counter and histogram, which Prometheus has no use for

requests_total = Counter("http_requests", "Requests answered", ["method", "route", "status"])
request_seconds = Histogram(
    "http_request_duration_seconds", "How long answers took, to their end", ["method", "route"], buckets=SECONDS
)
requests_in_flight = Gauge("http_requests_in_flight", "Requests being answered, streams among them")
slow_clients_total = Counter(
    "task_api_slow_clients", "Clients that did not send their request, or read its answer, in time", ["part"]
)  # part: head, body or write

loop_lag_seconds = Histogram(
    "task_api_event_loop_lag_seconds", "How late the event loop did what was due", buckets=LAG_SECONDS
)
build_info = Gauge("task_api_build_info", "Always 1; what runs", ["version", "revision", "python", "storage"])


class CpuThrottling(Collector):
    """How often the kernel stopped this container since it had used its CPU limit up.

    root: where the cgroup file system is mounted; within a container its own group is the root. Yields nothing
    where there is no limit (https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files).
    """

    def __init__(self, root: Path = CGROUP) -> None:
        self._root = root

    def collect(self) -> Iterator[Metric]:
        """The counters of cgroup v2, or of v1."""
        for file, unit, per_second in (
            (self._root / "cpu.stat", "throttled_usec", 1e6),
            (self._root / "cpu/cpu.stat", "throttled_time", 1e9),
        ):
            try:
                stat = {name: int(value) for name, value in map(str.split, file.read_text().splitlines())}
            except OSError:
                continue
            if unit in stat:
                yield CounterMetricFamily("task_api_cpu_periods", "CPU periods", value=stat["nr_periods"])
                yield CounterMetricFamily(
                    "task_api_cpu_throttled_periods", "CPU periods cut short by the limit", value=stat["nr_throttled"]
                )
                yield CounterMetricFamily(
                    "task_api_cpu_throttled_seconds",
                    "How long this container stood still by its CPU limit",
                    value=stat[unit] / per_second,
                )
                return


REGISTRY.register(CpuThrottling())
