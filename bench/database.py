"""A dedicated PostgreSQL for a benchmark, in a container on its own core."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.machine import ADDRESS, OTHER_CORE, ROOT, BenchmarkError, cpu_seconds, free_port, run

ID_FORMAT = "01990000-0000-7000-8000-%012x"
"""The id of the n-th task, so that a client can compute it from a random number."""

# Settings differ from PostgreSQL's defaults in memory and in background work: no vacuum or checkpoint in the middle of
# one rung only. Acknowledged writes are on disk: fsync is on.
OPTIONS = (
    "listen_addresses=127.0.0.1", "shared_buffers=512MB", "max_wal_size=8GB", "checkpoint_timeout=1h", "autovacuum=off",
    "max_connections=100",
)  # fmt: skip

STATISTICS = "shared_preload_libraries=pg_stat_statements"
"""The option that counts() needs, and the extension pg_stat_statements."""
NEXT_TRANSACTION = "pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
"""Exact, unlike pg_stat_database, which backends update once a second."""


def image() -> str:
    """The image of versions.env; the environment takes precedence."""
    lines = (ROOT / "versions.env").read_text().splitlines()
    pinned = next(line.partition("=")[2] for line in lines if line.startswith("POSTGRES_IMAGE="))
    return os.environ.get("POSTGRES_IMAGE", pinned)


@dataclass(frozen=True)
class Database:
    """A running PostgreSQL."""

    container: str
    port: int

    @property
    def url(self) -> str:
        """Its URL."""
        return f"postgresql://postgres:bench@{ADDRESS}:{self.port}/postgres"

    def execute(self, *statements: str) -> str:
        """The result of the last statement, as psql prints it without decoration."""
        commands = [argument for statement in statements for argument in ("--command", statement)]
        return run(
            "docker", "exec", self.container, "psql", "--quiet", "--no-psqlrc", "--tuples-only", "--no-align",
            "--set", "ON_ERROR_STOP=1", self.url, *commands,
        ).strip()  # fmt: skip

    @cached_property
    def _main_process(self) -> str:
        return run("docker", "inspect", "--format", "{{.State.Pid}}", self.container).strip()

    def processes(self) -> list[int]:
        """The ids of its processes, on this machine."""
        main = self._main_process
        return [int(pid) for pid in (main, *Path(f"/proc/{main}/task/{main}/children").read_text().split())]

    def cpu_seconds(self) -> float:
        """CPU time of all its processes, including those that ended: pgx closes a connection whose request is canceled,
        as all are when wrk ends."""
        ended = Path(f"/proc/{self._main_process}/stat").read_text().rpartition(")")[2].split()[13:15]
        return sum(map(cpu_seconds, self.processes())) + sum(map(int, ended)) / os.sysconf("SC_CLK_TCK")

    def fill(self, first: int, last: int) -> None:
        """Inserts the tasks with these numbers; the schema was migrated by the service before.

        Texts of different lengths, a label in ten thousand that is rare enough to search for, and the fields that lists
        filter by.
        """
        self.execute(
            f"""
            INSERT INTO tasks
            SELECT ('01990000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
                   'Water the plants number ' || n,
                   repeat('It has not rained for a while. ', n % 7), 'todo', n % 5,
                   NULL, date '2026-12-01' + n % 365, timestamptz '2026-12-01 00:00Z' + (n % 365) * interval '1 day',
                   NULL, ARRAY['home', 'label' || n % 1000], 'project' || n % 100, NULL, 'somebody' || n % 500, 0, NULL,
                   n, '{{"room": "kitchen"}}', timestamptz '2026-01-01 00:00Z' + n * interval '1 second',
                   timestamptz '2026-01-01 00:00Z' + n * interval '1 second', NULL, NULL, 1,
                   array_to_tsvector(ARRAY['water', 'the', 'plants', 'number', n::text, 'word' || n % 10000])
              FROM generate_series({first}, {last}) AS n
            """,
            "VACUUM ANALYZE tasks",
        )

    def delete_new(self) -> None:
        """Deletes the created tasks, so that every measurement starts from the same rows."""
        self.execute(
            "DELETE FROM tasks WHERE title = 'Water the plants'",
            "TRUNCATE changes, idempotency_records",
            "VACUUM tasks",
            "CHECKPOINT",
        )

    def count_statements(self, track: str) -> None:
        """track: `top`, or `none`, which saves PostgreSQL the CPU time that counting takes."""
        self.execute(f"ALTER SYSTEM SET pg_stat_statements.track = '{track}'", "SELECT pg_reload_conf()")

    def counts(self) -> tuple[int, int]:
        """The statements counted so far, and the transactions that wrote."""
        query = f"SELECT coalesce(sum(calls), 0), {NEXT_TRANSACTION} FROM pg_stat_statements"
        statements, transactions = self.execute(query).split("|")
        return int(statements), int(transactions)


@contextlib.contextmanager
def running(*options: str) -> Iterator[Database]:
    """A PostgreSQL for the duration of the block; options: in addition to OPTIONS, or overriding them."""
    database = Database(f"task-api-bench-{os.getpid()}", free_port())
    # On the host's network: a published port would go through Docker's proxy process.
    run(
        "docker", "run", "--detach", "--rm", "--network", "host", "--cpuset-cpus", OTHER_CORE, "--shm-size", "1g",
        "--env", "POSTGRES_PASSWORD=bench", "--name", database.container, image(),
        "postgres", "-p", str(database.port), *(part for option in (*OPTIONS, *options) for part in ("-c", option)),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                database.execute("SELECT 1")
                break
            except BenchmarkError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        yield database
    finally:
        run("docker", "rm", "--force", "--volumes", database.container)
