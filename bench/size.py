"""Two million tasks as they are in life: what PostgreSQL spends on a page of each list, beside a build of before."""

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
from bench.machine import ADDRESS, ROOT, SERVICE_PYTHON, CannotMeasure, cpu_seconds, free_port, run, serving

ROWS = 2_000_000
BEFORE = os.environ.get("BEFORE", "HEAD~1")
"""What is measured beside this tree: any name that Git has for a commit."""
SOURCES = ("services/task-api/src", "packages/chassis/src")
OPTIONS = ("shared_preload_libraries=pg_stat_statements", "shared_buffers=1GB", "maintenance_work_mem=256MB")
TIMES = 3
INSERTS, ROUNDS = 2_000, 6
LISTS = {
    "newest first": "",
    "label=nolabel": "label=nolabel",
    "label=work&label=home (never meet, half and a third of all)": "label=work&label=home",
    "label=label2&label=label3 (never meet, one in 20 and 30)": "label=label2&label=label3",
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
    "label=label50": "label=label50",
    "label=old (a label of two years ago)": "label=old",
    "project=huge&sort=title": "project=huge&sort=title",
    "label=home&due_after&due_before": "label=home&due_after=2026-12-01T00:00:00Z&due_before=2026-12-08T00:00:00Z",
}
UNKNOWN = (
    "label=nolabel",
    "project=nope&sort=title",
    "label=label2&label=label3 (never meet, one in 20 and 30)",
    "label=work&label=home (never meet, half and a third of all)",
    "label=work&sort=title",
)
"""Asked for again without statistics of labels and projects: PostgreSQL then takes each of these for one task in 200,
as it does for one that nobody has where there are few of them and all are about as frequent."""
FORGET = """
    DELETE FROM pg_statistic USING pg_attribute
     WHERE starelid = 'tasks'::regclass AND attrelid = starelid AND attnum = staattnum
       AND attname IN ('labels', 'project')
"""


def measure(say: Callable[[str], None]) -> dict[str, object]:
    """CPU is that of the process behind the service's connection: what others do for a parallel query is not in it."""
    commit = run("git", "describe", "--always", BEFORE).strip()
    with database.running(*OPTIONS) as db, tempfile.TemporaryDirectory() as folder:
        run("sh", "-c", f"git archive {commit} {' '.join(SOURCES)} | tar -x -C {folder}")
        db.execute("CREATE EXTENSION pg_stat_statements")
        before, after = Path(folder), ROOT
        with _started(before, db) as port:
            _fill(db)
            say(f"{ROWS} tasks are there")
            there = _indexes(db)
            lists = {"before": _lists(db, port, tuple(LISTS), say)}
        start = time.monotonic()
        with _started(after, db) as port:
            seconds = time.monotonic() - start
            lists["after"] = _lists(db, port, tuple(LISTS), say)
        made = {name: definition for name, definition in _indexes(db).items() if name not in there}
        inserts: dict[str, list[dict[str, float]]] = {"before": [], "after": []}
        for _ in range(ROUNDS):
            for name, root in (("before", before), ("after", after)):
                _drop(db, made)
                db.execute(*(made.values() if name == "after" else ()), "SELECT 1")
                with _started(root, db) as port:
                    inserts[name].append(_inserts(db, port))
                say(
                    f"insert, {name}: " + ", ".join(f"{what} {value:,.3f}" for what, value in inserts[name][-1].items())
                )
        db.execute(FORGET)
        unknown = {}
        for name, root in (("after", after), ("before", before)):
            with _started(root, db) as port:
                unknown[name] = _lists(db, port, UNKNOWN, say)
            _drop(db, made)
    for name, known in lists.items():
        known |= {f"{query}, taken for one in 200": figures for query, figures in unknown[name].items()}
    return {
        "commit": commit,
        "migration_seconds": seconds,
        **{name: {"lists": lists[name], "inserts": _medians(inserts[name])} for name in lists},
    }


@contextlib.contextmanager
def _started(root: Path, db: database.Database) -> Iterator[int]:
    """The service of that tree with one connection, on the port that is returned."""
    port = free_port()
    environment = {
        "TASKS_DATABASE_URL": db.url,
        "PYTHONPATH": ":".join(str(root / source) for source in SOURCES),
        "TASKS_DATABASE_POOL_SIZE": "1",
        "TASKS_DATABASE_SECONDS": "60",
        "TASKS_DATABASE_STATEMENT_SECONDS": "60",
    }
    command = (SERVICE_PYTHON, "-m", "task_api", "serve", "--port", str(port))
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(*command, port=port, log=Path(folder) / "log", **environment) as server,
    ):
        server.wait_until_ready(300)
        yield port


def _indexes(db: database.Database) -> dict[str, str]:
    """Their definitions by their names."""
    lines = db.execute("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'tasks'").splitlines()
    return dict(line.split("|", 1) for line in lines)


def _drop(db: database.Database, indexes: Iterable[str]) -> None:
    db.execute(*(f"DROP INDEX IF EXISTS {name}" for name in indexes), "SELECT 1")


def _lists(
    db: database.Database, port: int, names: Sequence[str], say: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    lists = {}
    for name in names:
        lists[name] = _list(db, port, f"/v1/tasks?{LISTS[name]}")
        say(f"{name}: " + ", ".join(f"{what} {value:,.1f}" for what, value in lists[name].items()))
    return lists


def _fill(db: database.Database) -> None:
    """Indexes are made when the rows are there: that is a third of the time."""
    made = {name: definition for name, definition in _indexes(db).items() if name != "tasks_pkey"}
    _drop(db, made)
    script = (ROOT / "services/task-api/tests/lifelike.sql").read_text()
    db.execute(script.replace(":rows", str(ROWS)), *made.values(), "VACUUM ANALYZE tasks", "CHECKPOINT")


def _list(db: database.Database, port: int, path: str) -> dict[str, float]:
    _ask(port, "GET", path)
    db.execute("SELECT pg_stat_statements_reset()")
    times, cpu, backend = [], [], _backend(db)
    for _ in range(TIMES):
        used, start = cpu_seconds(backend), time.perf_counter()
        _ask(port, "GET", path)
        times.append((time.perf_counter() - start) * 1000)
        cpu.append((cpu_seconds(backend) - used) * 1000)
    return {"cpu_ms": min(cpu), "buffers": _counted(db, "shared_blks_hit + shared_blks_read") / TIMES, "ms": min(times)}


def _inserts(db: database.Database, port: int) -> dict[str, float]:
    body = {"labels": ["work", "label7"], "project": "huge", "assignee": "somebody7", "due_on": "2027-01-01"}
    # It begins with nothing that waits to be entered into an index, and writes pages in full.
    db.execute("VACUUM tasks", "CHECKPOINT", "SELECT pg_stat_statements_reset()")
    backend = _backend(db)
    used = cpu_seconds(backend)
    for n in range(INSERTS):
        _ask(port, "POST", "/v1/tasks", json.dumps({**body, "title": f"Task {n * 7919 % 100000}"}))
    return {
        "cpu_ms": (cpu_seconds(backend) - used) * 1000 / INSERTS,
        "buffers": _counted(db, "shared_blks_hit + shared_blks_read") / INSERTS,
        "wal": _counted(db, "wal_bytes") / INSERTS,
    }


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {what: statistics.median(one[what] for one in rounds) for what in rounds[0]}


def _counted(db: database.Database, what: str) -> float:
    return float(db.execute(f"SELECT coalesce(sum({what}), 0) FROM pg_stat_statements WHERE query ~ 'tasks'"))


def _backend(db: database.Database) -> int:
    """The process behind the service's one connection, by its number on this machine."""
    inside = db.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'task-api'")
    main = run("docker", "inspect", "--format", "{{.State.Pid}}", db.container).strip()
    for pid in Path(f"/proc/{main}/task/{main}/children").read_text().split():
        if f"\t{inside}\n" in Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].partition("NSpgid:")[0]:
            return int(pid)
    raise CannotMeasure("The service has no connection to PostgreSQL, or more than one.")


def _ask(port: int, method: str, path: str, body: str | None = None) -> None:
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=120)
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    response = connection.getresponse()
    said = response.read()
    connection.close()
    if response.status >= 300:
        raise CannotMeasure(f"{method} {path} was answered {response.status}: {said[:300]!r}")
