"""What a pod exports, by name: what alerts, dashboard and docs may speak of."""

from __future__ import annotations

import re

HISTOGRAMS = {
    "http_request_duration_seconds",
    "task_api_db_pool_acquire_seconds",
    "task_api_event_loop_lag_seconds",
}

METRICS = {
    # at /metrics
    "http_requests_total",
    "http_requests_in_flight",
    "task_api_build_info",
    "task_api_db_pool_max_connections",
    "task_api_db_pool_connections",
    "task_api_db_pool_idle_connections",
    "task_api_db_pool_waiting",
    "task_api_db_retries_total",
    "task_api_db_rejected_total",
    "task_api_idempotent_replays_total",
    "task_api_change_feed_lag_seconds",
    "task_api_cpu_throttled_seconds_total",
    "task_api_cpu_periods_total",
    "task_api_cpu_throttled_periods_total",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_start_time_seconds",
    # at /health
    "task_api_health_status",
    "task_api_uptime_seconds",
    "task_api_tasks",
    "task_api_memory_bytes",
} | HISTOGRAMS

FROM_OTHERS = {
    "up",  # Prometheus
    "kube_horizontalpodautoscaler_status_desired_replicas",  # kube-state-metrics
    "kube_horizontalpodautoscaler_spec_max_replicas",
}


def metrics_of(expression: str) -> set[str]:
    """The metrics that a PromQL expression names; histograms without _bucket, _sum and _count."""
    without_labels = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(by|without|on|ignoring) \([^)]*\)', " ", expression)
    found = set(re.findall(r"(?<![\w.])[a-zA-Z_:][\w:]*(?![\w:]|\s*\()", without_labels)) - {"and", "or", "unless"}
    return {re.sub("_(bucket|sum|count)$", "", name) if _of_histogram(name) else name for name in found}


def _of_histogram(name: str) -> bool:
    return any(name.startswith(histogram) for histogram in HISTOGRAMS)
