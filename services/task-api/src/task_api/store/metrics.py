"""Prometheus metrics of the storage."""

from __future__ import annotations

from chassis.postgres.metrics import DatabaseMetrics

metrics = DatabaseMetrics("task_api")
