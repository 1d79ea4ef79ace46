"""Releases on one database: several pods starting together, old pods beside new ones, and a failing migration."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from acknowledged.processes import Process, client_of, serving_process
from acknowledged.row import Row
from acknowledged.trial import judged
from balancer import Balancer
from databases import connected
from running import SERVE, environment, start

from chassis.migrations import read_migrations
from task_api.store import migrations

KNOWN = [migration.number for migration in read_migrations(migrations.FOLDER / "postgres")]
NEXT = [sys.executable, str(Path(__file__).parent / "next_release.py")]


@pytest.mark.timeout(600)
async def test_pods_that_start_together_migrate_an_empty_database_once(postgres_url: str, tmp_path: Path) -> None:
    settings = environment(TASKS_DATABASE_URL=postgres_url)
    pods = [Process(SERVE, settings, tmp_path / f"log-{n}", start) for n in range(4)]
    try:
        for pod in pods:
            pod.start()
        for pod in pods:
            pod.wait_until_ready()
    finally:
        for pod in pods:
            pod.kill()
    logs = [(tmp_path / f"log-{n}").read_text() for n in range(4)]
    assert sum("Applied migration 0001" in log for log in logs) == 1, logs
    async with connected(postgres_url) as db:
        assert await db.fetchval("SELECT array_agg(number ORDER BY number) FROM schema_migrations") == KNOWN


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_pods_of_two_releases_serve_side_by_side(
    postgres_url: str, tmp_path: Path, keep: Callable[[Row], None]
) -> None:
    settings = environment(TASKS_DATABASE_URL=postgres_url, TASKS_DRAIN_SECONDS="1.5")
    with contextlib.ExitStack() as stack:
        balancer = stack.enter_context(Balancer().running())
        old = stack.enter_context(serving_process(SERVE, settings, tmp_path / "old", start))
        balancer.backends = [old.port]
        connect = functools.partial(client_of, balancer.url)
        fault = "processes: a release with a migration beside the old one, and back"
        with judged(fault, connect, tmp_path / "history.jsonl", keep, graceful=True) as running:
            running.mark_fault("migration")
            new = stack.enter_context(serving_process([*NEXT, "good", "serve"], settings, tmp_path / "new", start))
            balancer.backends = [old.port, new.port]
            # The old release on the new schema, as after a rollback.
            again = stack.enter_context(serving_process(SERVE, settings, tmp_path / "again", start))
            balancer.backends = [old.port, new.port, again.port]
            running.wait_until_recovered()
            for ending in (old, new):
                ending.send(signal.SIGTERM)
                balancer.backends = [port for port in balancer.backends if port != ending.port]
                assert ending.wait() == 0
    async with connected(postgres_url) as db:
        assert await db.fetchval("SELECT array_agg(number ORDER BY number) FROM schema_migrations") == [*KNOWN, 9999]


@pytest.mark.timeout(600)
async def test_a_failed_migration_changes_nothing_and_old_pods_keep_serving(
    postgres_url: str, tmp_path: Path, keep: Callable[[Row], None]
) -> None:
    settings = environment(TASKS_DATABASE_URL=postgres_url)
    with serving_process(SERVE, settings, tmp_path / "old", start) as old:
        fault = "processes: a release whose migration fails"
        with judged(fault, old.client, tmp_path / "history.jsonl", keep, graceful=True) as running:
            running.mark_fault("failing migration")
            failing = Process([*NEXT, "bad", "serve"], settings, tmp_path / "new", start)
            failing.start()
            try:
                assert failing.wait() == 1
            finally:
                failing.kill()
    assert "Migration 9999 effort failed and was rolled back: division by zero" in (tmp_path / "new").read_text()
    async with connected(postgres_url) as db:
        assert await db.fetchval("SELECT array_agg(number ORDER BY number) FROM schema_migrations") == KNOWN
        columns = (
            "SELECT count(*) FROM information_schema.columns WHERE table_name = 'tasks' AND column_name = 'effort'"
        )
        assert await db.fetchval(f"{columns} AND table_schema = current_schema()") == 0
