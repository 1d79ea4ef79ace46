"""Two million realistic tasks: PostgreSQL's cost of a page of each list, compared with an earlier commit."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from bench import database
from bench.build import CURRENT, Build, earlier
from bench.machine import ADDRESS, ROOT, BenchmarkError, cpu_seconds, free_port, serving

ROWS = 2_000_000
BEFORE = os.environ.get("BEFORE", "HEAD~1")
"""The commit to compare with: any Git revision."""
OPTIONS = ("shared_preload_libraries=pg_stat_statements", "shared_buffers=1GB", "maintenance_work_mem=256MB")
REPETITIONS = 3
INSERTS, ROUNDS = 2_000, 6
LISTS = {
    "newest first": "",
    "label=nolabel": "label=nolabel",
    "label=work&label=home (disjoint, half and a third of all)": "label=work&label=home",
    "label=label2&label=label3 (disjoint, one in 20 and 30)": "label=label2&label=label3",
    "project=nope&sort=title": "project=nope&sort=title",
    "project=huge&status=todo&sort=due": "project=huge&status=todo&sort=due",
    "project=finished&status=todo&sort=due": "project=finished&status=todo&sort=due",
    "project=finished": "project=finished",
    "status=todo&sort=due": "status=todo&sort=due",
    "status=todo&due_before, sort=due (overdue)": "status=todo&due_before=2026-12-01T00:00:00Z&sort=due",
    "status=done&sort=-completed_at": "status=done&sort=-completed_at",
    "due_after&sort=due (upcoming)": "due_after=2026-12-01T00:00:00Z&sort=due",
    "label=rare&sort=due": "label=rare&sort=due",
    "label=work&sort=title": "label=work&sort=title",
    "label=label50&sort=-priority": "label=label50&sort=-priority",
    "q=word50&sort=title": "q=word50&sort=title",
    "project=project0&sort=due": "project=project0&sort=due",
    "deleted=true": "deleted=true",
    "status=todo&sort=created_at (opposed)": "status=todo&sort=created_at",
    "project=huge&sort=due (opposed)": "project=huge&sort=due",
    "project=huge&status=done&sort=due (opposed)": "project=huge&status=done&sort=due",
    "project=finished&sort=-due (opposed)": "project=finished&sort=-due",
    "project=huge&due_after, sort=due (the last ones)": "project=huge&due_after=2027-02-20T00:00:00Z&sort=due",
    "project=large&sort=due,-priority": "project=large&sort=due,-priority",
    "project=finished&sort=-updated_at (opposed)": "project=finished&sort=-updated_at",
    "assignee=somebody0&status=todo&sort=due (opposed)": "assignee=somebody0&status=todo&sort=due",
    "status=todo&sort=-priority,due": "status=todo&sort=-priority,due",
    "label=label50": "label=label50",
    "label=old (a label of two years ago)": "label=old",
    "project=huge&sort=title": "project=huge&sort=title",
    "label=home&due_after&due_before": "label=home&due_after=2026-12-01T00:00:00Z&due_before=2026-12-08T00:00:00Z",
}
UNKNOWN = (
    "label=nolabel",
    "project=nope&sort=title",
    "label=label2&label=label3 (disjoint, one in 20 and 30)",
    "label=work&label=home (disjoint, half and a third of all)",
    "label=work&sort=title",
)
"""Repeated without statistics of labels and projects: PostgreSQL then estimates each of these at one task in 200, as it
does for a value that no task has if values are few and about equally frequent."""
DELETE_STATISTICS = """
    DELETE FROM pg_statistic USING pg_attribute
     WHERE starelid = 'tasks'::regclass AND attrelid = starelid AND attnum = staattnum
       AND attname IN ('labels', 'project')
"""


def measure(log: Callable[[str], None]) -> dict[str, object]:
    """CPU is that of the backend of the service's connection: parallel workers are not included."""
    with database.running(*OPTIONS) as db, earlier(BEFORE) as (commit, before):
        db.execute("CREATE EXTENSION pg_stat_statements")
        after = CURRENT
        with _running_service(before, db) as port:
            _fill(db)
            log(f"inserted {ROWS} tasks")
            existing = _indexes(db)
            lists = {"before": _lists(db, port, tuple(LISTS), log)}
        start = time.monotonic()
        with _running_service(after, db) as port:
            seconds = time.monotonic() - start
            lists["after"] = _lists(db, port, tuple(LISTS), log)
        created = {name: definition for name, definition in _indexes(db).items() if name not in existing}
        inserts: dict[str, list[dict[str, float]]] = {"before": [], "after": []}
        for _ in range(ROUNDS):
            for name, build in (("before", before), ("after", after)):
                _drop(db, created)
                db.execute(*(created.values() if name == "after" else ()), "SELECT 1")
                with _running_service(build, db) as port:
                    inserts[name].append(_inserts(db, port))
                log(
                    f"insert, {name}: " + ", ".join(f"{what} {value:,.3f}" for what, value in inserts[name][-1].items())
                )
        db.execute(DELETE_STATISTICS)
        unknown = {}
        for name, build in (("after", after), ("before", before)):
            with _running_service(build, db) as port:
                unknown[name] = _lists(db, port, UNKNOWN, log)
            _drop(db, created)
    for name, known in lists.items():
        known |= {f"{query}, estimated at one in 200": figures for query, figures in unknown[name].items()}
    return {
        "commit": commit,
        "migration_seconds": seconds,
        **{name: {"lists": lists[name], "inserts": _medians(inserts[name])} for name in lists},
    }


@contextlib.contextmanager
def _running_service(build: Build, db: database.Database) -> Iterator[int]:
    """That build of the service with one connection; yields its port."""
    port = free_port()
    environment = {
        "TASKS_DATABASE_URL": db.url,
        "PYTHONPATH": build.path,
        "TASKS_DATABASE_POOL_SIZE": "1",
        "TASKS_DATABASE_SECONDS": "60",
        "TASKS_DATABASE_STATEMENT_SECONDS": "60",
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(*build.command(str(port)), port=port, log=Path(folder) / "log", **environment) as server,
    ):
        server.wait_until_ready(300)
        yield port


def _indexes(db: database.Database) -> dict[str, str]:
    """Index definitions by name."""
    lines = db.execute("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'tasks'").splitlines()
    return dict(line.split("|", 1) for line in lines)


def _drop(db: database.Database, indexes: Iterable[str]) -> None:
    db.execute(*(f"DROP INDEX IF EXISTS {name}" for name in indexes), "SELECT 1")


def _lists(
    db: database.Database, port: int, names: Sequence[str], log: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    lists = {}
    for name in names:
        lists[name] = _list(db, port, f"/v1/tasks?{LISTS[name]}")
        log(f"{name}: " + ", ".join(f"{what} {value:,.1f}" for what, value in lists[name].items()))
    return lists


def _fill(db: database.Database) -> None:
    """Creates indexes after the rows: that takes a third of the time."""
    created = {name: definition for name, definition in _indexes(db).items() if name != "tasks_pkey"}
    _drop(db, created)
    script = (ROOT / "services/task-api/tests/lifelike.sql").read_text()
    db.execute(script.replace(":rows", str(ROWS)), *created.values(), "VACUUM ANALYZE tasks", "CHECKPOINT")


def _list(db: database.Database, port: int, path: str) -> dict[str, float]:
    _get(port, "GET", path)
    db.execute("SELECT pg_stat_statements_reset()")
    times, cpu, backend = [], [], _backend(db)
    for _ in range(REPETITIONS):
        cpu_before, start = cpu_seconds(backend), time.perf_counter()
        _get(port, "GET", path)
        times.append((time.perf_counter() - start) * 1000)
        cpu.append((cpu_seconds(backend) - cpu_before) * 1000)
    return {
        "cpu_ms": min(cpu),
        "buffers": _sum_statistics(db, "shared_blks_hit + shared_blks_read") / REPETITIONS,
        "ms": min(times),
    }


def _inserts(db: database.Database, port: int) -> dict[str, float]:
    body = {"labels": ["work", "label7"], "project": "huge", "assignee": "somebody7", "due_on": "2027-01-01"}
    # Starts without pending index entries, and with full-page writes.
    db.execute("VACUUM tasks", "CHECKPOINT", "SELECT pg_stat_statements_reset()")
    backend = _backend(db)
    cpu_before = cpu_seconds(backend)
    ids = []
    for n in range(INSERTS):
        task = _get(port, "POST", "/v1/tasks", json.dumps({**body, "title": f"Task {n * 7919 % 100000}"}))
        ids.append(json.loads(task)["id"])
    figures = {
        "cpu_ms": (cpu_seconds(backend) - cpu_before) * 1000 / INSERTS,
        "buffers": _sum_statistics(db, "shared_blks_hit + shared_blks_read") / INSERTS,
        "wal": _sum_statistics(db, "wal_bytes") / INSERTS,
    }
    cpu_before = cpu_seconds(backend)
    for task_id in ids:
        _get(port, "PATCH", f"/v1/tasks/{task_id}", json.dumps({"status": "done"}))
    return {**figures, "completion_cpu_ms": (cpu_seconds(backend) - cpu_before) * 1000 / INSERTS}


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {what: statistics.median(one[what] for one in rounds) for what in rounds[0]}


def _sum_statistics(db: database.Database, what: str) -> float:
    return float(db.execute(f"SELECT coalesce(sum({what}), 0) FROM pg_stat_statements WHERE query ~ 'tasks'"))


def _backend(db: database.Database) -> int:
    """The process id, on this machine, of the backend of the service's only connection."""
    pid_in_container = db.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'task-api'")
    for pid in db.processes():
        if (
            f"\t{pid_in_container}\n"
            in Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].partition("NSpgid:")[0]
        ):
            return pid
    raise BenchmarkError("The service must have exactly one connection to PostgreSQL.")


def _get(port: int, method: str, path: str, body: str | None = None) -> bytes:
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=120)
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    response = connection.getresponse()
    response_body = response.read()
    connection.close()
    if response.status >= 300:
        raise BenchmarkError(f"{method} {path} returned {response.status}: {response_body[:300]!r}")
    return response_body
