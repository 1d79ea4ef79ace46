"""What every service counts, for Prometheus (https://prometheus.io/docs/practices/naming/)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

# Those of OpenTelemetry's http.server.request.duration.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
BOUNDS = [floatToGoString(bound) for bound in (*SECONDS, float("inf"))]
LAG_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

CGROUP = Path("/sys/fs/cgroup")

disable_created_metrics()  # a series more for each counter and histogram, which Prometheus has no use for

requests_in_flight = Gauge("http_requests_in_flight", "Requests being answered, streams among them")


class Metrics:
    """What every service counts under a name of its own. There can be one of each name in a process.

    namespace: what the names begin with, as in task_api_build_info.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.slow_clients_total = Counter(
            f"{namespace}_slow_clients",
            "Clients that did not send their request, or read its answer, in time",
            ["part"],
        )  # part: head, body or write
        self.loop_lag_seconds = Histogram(
            f"{namespace}_event_loop_lag_seconds", "How late the event loop did what was due", buckets=LAG_SECONDS
        )
        self.build_info = Gauge(
            f"{namespace}_build_info", "Always 1; what runs", ["version", "revision", "python", "storage"]
        )
        REGISTRY.register(CpuThrottling(namespace))


class Answers(Collector):
    """Requests answered, and how long that took.

    Not a Counter and a Histogram of prometheus_client: they take a lock each time, and all answers come from the one
    thread of the event loop. In a loop of nothing else 0.2 µs in the place of 1.6.
    """

    def __init__(self) -> None:
        self._durations: dict[tuple[str, str, int], _Durations] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One more answer."""
        durations = self._durations.get((method, route, status))
        if durations is None:
            durations = self._durations[method, route, status] = _Durations()
        durations.seconds += seconds
        durations.buckets[bisect_left(SECONDS, seconds)] += 1

    def collect(self) -> Iterator[Metric]:
        """http_requests_total by method, route and status; http_request_duration_seconds by method and route."""
        requests = CounterMetricFamily("http_requests", "Requests answered", labels=["method", "route", "status"])
        by_route: dict[tuple[str, str], list[_Durations]] = {}
        for (method, route, status), durations in self._durations.items():
            requests.add_metric([method, route, str(status)], sum(durations.buckets))
            by_route.setdefault((method, route), []).append(durations)
        yield requests
        seconds = HistogramMetricFamily(
            "http_request_duration_seconds", "How long answers took, to their end", labels=["method", "route"]
        )
        for labels, of_statuses in by_route.items():
            counts = accumulate(map(sum, zip(*(durations.buckets for durations in of_statuses), strict=True)))
            seconds.add_metric(
                labels, list(zip(BOUNDS, counts, strict=True)), sum(durations.seconds for durations in of_statuses)
            )
        yield seconds


class _Durations:
    """Of the answers of one method, route and status: all of them together, and how many in each bucket."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.buckets = [0] * len(BOUNDS)


class CpuThrottling(Collector):
    """How often the kernel stopped this container since it had used its CPU limit up.

    namespace: what the names begin with. root: where the cgroup file system is mounted; within a container its own
    group is the root. Yields nothing where there is no limit
    (https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files).
    """

    def __init__(self, namespace: str, root: Path = CGROUP) -> None:
        self._namespace = namespace
        self._root = root

    def collect(self) -> Iterator[Metric]:
        """The counters of cgroup v2, or of v1."""
        namespace = self._namespace
        for file, unit, per_second in (
            (self._root / "cpu.stat", "throttled_usec", 1e6),
            (self._root / "cpu/cpu.stat", "throttled_time", 1e9),
        ):
            try:
                stat = {name: int(value) for name, value in map(str.split, file.read_text().splitlines())}
            except OSError:
                continue
            if unit in stat:
                yield CounterMetricFamily(f"{namespace}_cpu_periods", "CPU periods", value=stat["nr_periods"])
                yield CounterMetricFamily(
                    f"{namespace}_cpu_throttled_periods",
                    "CPU periods cut short by the limit",
                    value=stat["nr_throttled"],
                )
                yield CounterMetricFamily(
                    f"{namespace}_cpu_throttled_seconds",
                    "How long this container stood still by its CPU limit",
                    value=stat[unit] / per_second,
                )
                return


answers = Answers()
REGISTRY.register(answers)
