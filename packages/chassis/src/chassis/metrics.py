"""Prometheus metrics of every service (https://prometheus.io/docs/practices/naming/)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

# Buckets of OpenTelemetry's http.server.request.duration.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
BOUNDS = [floatToGoString(bound) for bound in (*SECONDS, float("inf"))]
LAG_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

CGROUP = Path("/sys/fs/cgroup")

disable_created_metrics()  # one more series per counter and histogram, which Prometheus does not use

requests_in_flight = Gauge("http_requests_in_flight", "Requests in flight, including streams")


class Metrics:
    """Metrics that every service has, with its own prefix. One instance per namespace and process.

    namespace: prefix of the names, as in task_api_build_info.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.slow_clients_total = Counter(
            f"{namespace}_slow_clients",
            "Clients that did not send their request or read the response in time",
            ["part"],
        )  # part: head, body or write
        self.loop_lag_seconds = Histogram(
            f"{namespace}_event_loop_lag_seconds", "Event loop scheduling delay in seconds", buckets=LAG_SECONDS
        )
        self.build_info = Gauge(
            f"{namespace}_build_info",
            "Always 1; the labels say what runs",
            ["version", "revision", "python", "storage"],
        )
        REGISTRY.register(CpuThrottling(namespace))


class ResponseCollector(Collector):
    """Number and duration of responses.

    Not prometheus_client's Counter and Histogram: they take a lock on each update, and all responses come from one
    thread, that of the event loop. In a tight loop, 0.2 µs instead of 1.6.
    """

    def __init__(self) -> None:
        self._durations: dict[tuple[str, str, int], _Durations] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one response."""
        durations = self._durations.get((method, route, status))
        if durations is None:
            durations = self._durations[method, route, status] = _Durations()
        durations.seconds += seconds
        durations.buckets[bisect_left(SECONDS, seconds)] += 1

    def collect(self) -> Iterator[Metric]:
        """http_requests_total by method, route and status; http_request_duration_seconds by method and route."""
        requests = CounterMetricFamily("http_requests", "HTTP responses", labels=["method", "route", "status"])
        by_route: dict[tuple[str, str], list[_Durations]] = {}
        for (method, route, status), durations in self._durations.items():
            requests.add_metric([method, route, str(status)], sum(durations.buckets))
            by_route.setdefault((method, route), []).append(durations)
        yield requests
        seconds = HistogramMetricFamily(
            "http_request_duration_seconds", "Request duration, to the end of the response", labels=["method", "route"]
        )
        for labels, by_status in by_route.items():
            counts = accumulate(map(sum, zip(*(durations.buckets for durations in by_status), strict=True)))
            seconds.add_metric(
                labels, list(zip(BOUNDS, counts, strict=True)), sum(durations.seconds for durations in by_status)
            )
        yield seconds


class _Durations:
    """Durations of the responses of one method, route and status: their sum, and the count per bucket."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.buckets = [0] * len(BOUNDS)


class CpuThrottling(Collector):
    """CPU throttling of this container by its CPU limit.

    namespace: prefix of the names. root: mount point of the cgroup file system; in a container, its own group is the
    root. Yields nothing without a limit (https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files).
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
                yield CounterMetricFamily(f"{namespace}_cpu_periods", "CPU limit periods", value=stat["nr_periods"])
                yield CounterMetricFamily(
                    f"{namespace}_cpu_throttled_periods",
                    "CPU limit periods in which this container was throttled",
                    value=stat["nr_throttled"],
                )
                yield CounterMetricFamily(
                    f"{namespace}_cpu_throttled_seconds",
                    "Total time throttled by the CPU limit",
                    value=stat[unit] / per_second,
                )
                return


responses = ResponseCollector()
REGISTRY.register(responses)
