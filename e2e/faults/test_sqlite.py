"""What `make run` serves is killed while it writes, again and again."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from acknowledged.processes import kill_in_a_loop, serving_process
from acknowledged.trial import trial
from e2e.conftest import REPOSITORY, SUMMARY
from e2e.faults.report import Report, Row

KILLS = 200


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_two_hundred_kills_lose_nothing_and_leave_the_file_whole(
    report: Report, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    database = tmp_path / "tasks.db"
    command = [str(REPOSITORY / "scripts/run.sh"), "serve"]
    environment = {**os.environ, "SERVICE": "task-api", "TASKS_DATABASE_URL": f"sqlite:///{database}"}
    with serving_process(command, environment, tmp_path / "log") as service:

        def connect() -> httpx2.Client:
            return httpx2.Client(base_url=service.url, timeout=10)

        with trial(connect, REPOSITORY / "reports/faults/sqlite.jsonl") as running:
            kill_in_a_loop(running, service, KILLS)
    row = Row(f"`make run` on SQLite: SIGKILL, {KILLS} times", running.history, running.verdict)
    report.rows.append(row)
    record_property(SUMMARY, f"{row}\n  {running.verdict}")
    assert running.verdict.broken_promises == []
    assert running.verdict.unknown == 0
    assert len(running.history.strikes) == KILLS
    assert running.history.failures, "nobody noticed that the process was killed"
    with contextlib.closing(sqlite3.connect(database)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
