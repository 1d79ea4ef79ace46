"""A PostgreSQL of its own for a measurement, in a container on a core of its own."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.machine import ADDRESS, OTHER_CORE, ROOT, CannotMeasure, free_port, run

ID_FORMAT = "01990000-0000-7000-8000-%012x"
"""The id of the n-th task, so that whoever asks can make it of a random number."""

# Settings differ from PostgreSQL's own in memory and in what happens at times of its own choosing: no vacuum and no
# checkpoint in the middle of one rung and not of the other. What is acknowledged is on the disk: fsync is on.
OPTIONS = (
    "listen_addresses=127.0.0.1", "shared_buffers=512MB", "max_wal_size=8GB", "checkpoint_timeout=1h", "autovacuum=off",
    "max_connections=100",
)  # fmt: skip


def image() -> str:
    """The image of versions.env; the environment wins."""
    lines = (ROOT / "versions.env").read_text().splitlines()
    pinned = next(line.partition("=")[2] for line in lines if line.startswith("POSTGRES_IMAGE="))
    return os.environ.get("POSTGRES_IMAGE", pinned)


@dataclass(frozen=True)
class Database:
    """One that answers."""

    container: str
    port: int

    @property
    def url(self) -> str:
        """Where it is."""
        return f"postgresql://postgres:bench@{ADDRESS}:{self.port}/postgres"

    def execute(self, *statements: str) -> str:
        """What the last statement returned, as psql prints it without decoration."""
        commands = [argument for statement in statements for argument in ("--command", statement)]
        return run(
            "docker", "exec", self.container, "psql", "--quiet", "--no-psqlrc", "--tuples-only", "--no-align",
            "--set", "ON_ERROR_STOP=1", self.url, *commands,
        ).strip()  # fmt: skip

    def fill(self, first: int, last: int) -> None:
        """Makes the tasks with these numbers; the schema is the service's own, which has started on it before.

        Texts of several lengths, a label in ten thousand rare enough to be searched for, and what a list filters by.
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

    def forget_new(self) -> None:
        """Removes what was posted: every measurement finds the same rows."""
        self.execute(
            "DELETE FROM tasks WHERE title = 'Water the plants'", "TRUNCATE changes", "VACUUM tasks", "CHECKPOINT"
        )


@contextlib.contextmanager
def running(*options: str) -> Iterator[Database]:
    """A PostgreSQL until the end of the block; options: beside OPTIONS, or in their place."""
    database = Database(f"task-api-bench-{os.getpid()}", free_port())
    # On the host's network: a published port would lead through a process of Docker's own.
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
            except CannotMeasure:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        yield database
    finally:
        run("docker", "rm", "--force", "--volumes", database.container)
