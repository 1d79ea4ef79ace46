"""The names of a pod's exported metrics: those that alerts, dashboard and docs may use."""

from __future__ import annotations

import re

from manifests import REPOSITORY

# The service's own tests compare this table with its exports.
ROWS = re.findall(
    r"^\| `([a-z_]+)` \| (gauge|counter|histogram) \|", (REPOSITORY / "docs/operate.md").read_text(), re.MULTILINE
)
METRICS = {name for name, _ in ROWS}
HISTOGRAMS = {name for name, kind in ROWS if kind == "histogram"}

FROM_OTHERS = {
    "up",  # Prometheus
    "kube_horizontalpodautoscaler_status_desired_replicas",  # kube-state-metrics
    "kube_horizontalpodautoscaler_spec_max_replicas",
    "kube_cronjob_status_last_successful_time",
    "kube_cronjob_created",
}


def metrics_of(expression: str) -> set[str]:
    """The metrics in a PromQL expression; histograms without _bucket, _sum and _count."""
    without_labels = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(by|without|on|ignoring) \([^)]*\)', " ", expression)
    names = set(re.findall(r"(?<![\w.])[a-zA-Z_:][\w:]*(?![\w:]|\s*\()", without_labels)) - {"and", "or", "unless"}
    return {re.sub("_(bucket|sum|count)$", "", name) if _of_histogram(name) else name for name in names}


def _of_histogram(name: str) -> bool:
    return any(name.startswith(histogram) for histogram in HISTOGRAMS)
