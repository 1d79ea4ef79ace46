"""Releases on one database: several pods starting together, old pods beside new ones, and a failing migration."""

from __future__ import annotations

import contextlib
import functools
import itertools
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2
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
PREVIOUS = [sys.executable, str(Path(__file__).parent / "previous_release.py"), "serve"]
KEYED = {
    "/v1/tasks": {"title": "once"},
    "/v1/tasks:batch": {"items": [{"action": "create", "task": {"title": "once"}}]},
}
"""Requests by path: two ways to store a record."""


def post(pod: Process, path: str, request: object, key: str) -> httpx2.Response:
    with pod.client() as client:
        return client.post(path, json=request, headers={"Idempotency-Key": key})


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
@pytest.mark.parametrize(
    ("beside", "old_release", "new_release", "added"),
    [
        ("a release with a migration beside the old one", SERVE, [*NEXT, "good", "serve"], [9999]),
        ("this release beside the previous one", PREVIOUS, SERVE, []),
    ],
)
async def test_pods_of_two_releases_serve_side_by_side(
    beside: str,
    old_release: list[str],
    new_release: list[str],
    added: list[int],
    postgres_url: str,
    tmp_path: Path,
    keep: Callable[[Row], None],
) -> None:
    settings = environment(TASKS_DATABASE_URL=postgres_url, TASKS_DRAIN_SECONDS="1.5")
    with contextlib.ExitStack() as stack:
        balancer = stack.enter_context(Balancer().running())
        old = stack.enter_context(serving_process(old_release, settings, tmp_path / "old", start))
        balancer.backends = [old.port]
        connect = functools.partial(client_of, balancer.url)
        with judged(
            f"processes: {beside}, and back", connect, tmp_path / "history.jsonl", keep, graceful=True
        ) as running:
            running.mark_fault("migration")
            new = stack.enter_context(serving_process(new_release, settings, tmp_path / "new", start))
            balancer.backends = [old.port, new.port]
            # The old release on the new schema, as after a rollback.
            again = stack.enter_context(serving_process(old_release, settings, tmp_path / "again", start))
            balancer.backends = [old.port, new.port, again.port]
            running.wait_until_recovered()
            for ending in (old, new):
                ending.send(signal.SIGTERM)
                balancer.backends = [port for port in balancer.backends if port != ending.port]
                assert ending.wait() == 0
    async with connected(postgres_url) as db:
        assert await db.fetchval("SELECT array_agg(number ORDER BY number) FROM schema_migrations") == [*KNOWN, *added]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("storage_url", ["sqlite", "postgresql"], indirect=True)
def test_a_retry_gets_the_stored_response_from_pods_of_either_release(storage_url: str, tmp_path: Path) -> None:
    settings = environment(TASKS_DATABASE_URL=storage_url)
    pods: list[Process] = []
    responses: dict[str, httpx2.Response] = {}
    with contextlib.ExitStack() as stack:
        # The last one as after a rollback.
        for n, release in enumerate((PREVIOUS, SERVE, PREVIOUS)):
            pods.append(stack.enter_context(serving_process(release, settings, tmp_path / f"log-{n}", start)))
            for pod, (path, request) in itertools.product(pods, KEYED.items()):
                key = f"{path}#{len(responses)}"
                responses[key] = post(pod, path, request, key)
                assert responses[key].is_success, responses[key].text
                assert "idempotency-replayed" not in responses[key].headers
            for pod, (key, first) in itertools.product(pods, responses.items()):
                path = key.partition("#")[0]
                retried = post(pod, path, KEYED[path], key)
                assert (retried.status_code, retried.content) == (first.status_code, first.content)
                assert retried.headers["idempotency-replayed"] == "true"
                assert post(pod, "/v1/tasks", {"title": "another"}, key).status_code == 422
        with pods[0].client() as client:
            assert len(client.get("/v1/tasks").json()["items"]) == len(responses)


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
