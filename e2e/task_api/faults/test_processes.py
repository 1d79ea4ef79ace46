"""Faults without a cluster, from the service's own tests: the network to PostgreSQL, its disk, releases."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from acknowledged.row import Row
from e2e.cluster import REPOSITORY
from e2e.task_api.faults.report import Report

TESTS = ("acknowledged_writes", "database_faults", "migrations_side_by_side", "several_processes")


@pytest.mark.full
def test_faults_of_processes_are_on_the_page_too(report: Report, tmp_path: Path) -> None:
    service = REPOSITORY / "services/task-api"
    result = subprocess.run(
        [service / ".venv/bin/python", "-m", "pytest", "--quiet", *(f"tests/test_{name}.py" for name in TESTS)],
        cwd=service,
        env={**os.environ, "FAULT_ROWS": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    rows = [Row.read(file) for file in sorted(tmp_path.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)]
    report.rows += rows
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(rows) >= len(TESTS)
