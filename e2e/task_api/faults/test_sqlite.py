"""The process of `make run` is killed repeatedly while it writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from acknowledged.processes import kill_repeatedly, serving_process
from acknowledged.row import Row
from acknowledged.trial import judged
from e2e.cluster import REPOSITORY

KILLS = 200


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_two_hundred_kills_lose_nothing_and_leave_the_file_intact(
    record_row: Callable[[Row], None], tmp_path: Path
) -> None:
    database = tmp_path / "tasks.db"
    command = [str(REPOSITORY / "scripts/run.sh"), "serve"]
    environment = {**os.environ, "SERVICE": "task-api", "TASKS_DATABASE_URL": f"sqlite:///{database}"}
    with serving_process(command, environment, tmp_path / "log") as service:
        fault = f"`make run` on SQLite: SIGKILL, {KILLS} times"
        with judged(fault, service.client, REPOSITORY / "reports/faults/sqlite.jsonl", record_row) as running:
            kill_repeatedly(running, service, KILLS, database)
    assert len(running.history.faults) == KILLS
    assert running.history.failures, "no client noticed the kills"
