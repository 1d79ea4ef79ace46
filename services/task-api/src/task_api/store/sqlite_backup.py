"""Backup and restore of a SQLite file in use, by SQLite's online backup API.

`cp` makes no consistent backup: the last commits are in the -wal file, and pages change while it copies.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from chassis.storage import StoreUnavailable

LOCKED_SECONDS = 30.0
"""How long to wait for a lock that another process holds on either file."""


def back_up(database: Path, file: Path) -> int:
    """Writes the committed contents of `database` to the new file `file` and returns the number of tasks.

    Does not block readers and writers. `file` appears once it is complete, verified and synced to disk; only its owner
    can read it. Raises StoreUnavailable, and leaves no partial file.
    """
    if not database.is_file():
        raise StoreUnavailable(
            f"There is no SQLite file {database.absolute()} to back up. TASKS_DATABASE_URL says where it is."
        )
    if file.exists() and file.samefile(database):
        raise StoreUnavailable(f"{file} is the database itself. Choose another file for the backup.")
    if file.exists():
        raise StoreUnavailable(f"{file} already exists and is not overwritten. Choose another file, or remove it.")
    with _translate_errors(f"Cannot back up {database.absolute()} to {file}", "No partial file is left."):
        # In a temporary folder, removed with all files that SQLite creates next to a database.
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=file.parent) as folder:
            copy = Path(folder, file.name)
            _copy(database, copy)
            tasks = _verify(copy)
            copy.chmod(0o600)
            _sync(copy)
            copy.rename(file)
        _sync(file.parent)
    return tasks


def restore(file: Path, database: Path) -> tuple[int, Path | None]:
    """Replaces the contents of `database` with the backup `file`, atomically.

    One transaction to processes that have it open: they need not stop. Returns the number of tasks in the backup, and
    the backup of the previous contents. Raises StoreUnavailable, and changes nothing then.
    """
    if not file.is_file():
        raise StoreUnavailable(f"There is no file {file}. Name a file that `backup` wrote.")
    if database.exists() and file.samefile(database):
        raise StoreUnavailable(f"{file} is the database itself. Name a backup of it.")
    with _translate_errors(f"Cannot restore {file}", "Nothing was changed. Name another backup."):
        tasks = _verify(file)
    before = None
    if database.exists():
        before = database.with_name(f"{database.name}.before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
        back_up(database, before)
    with _translate_errors(f"Cannot restore {file} to {database.absolute()}", "Nothing was changed."):
        database.parent.mkdir(parents=True, exist_ok=True)
        _copy(file, database, mode="rwc")
    return tasks, before


def _copy(source: Path, target: Path, *, mode: str = "") -> None:
    """mode: how the target is opened; by default it is a standalone file, without -wal and -shm files."""
    deadline = time.monotonic() + LOCKED_SECONDS

    def wait(status: int, _remaining: int, _total: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > deadline:
            raise StoreUnavailable(
                f"Another process has locked {source} or {target} for {LOCKED_SECONDS:g} s. Nothing was changed."
                " To find the process: fuser FILE"
            )

    with _connect(source, "rw") as db, _connect(target, mode or "rwc") as copy:
        db.backup(copy, progress=wait)  # in one step: in WAL mode a reader does not block writers
        if not mode:
            copy.execute("PRAGMA journal_mode = DELETE")


def _verify(file: Path) -> int:
    """The number of tasks in a backup. Raises sqlite3.Error if it is not a valid one."""
    with _connect(file, "ro") as db:
        errors = [str(line) for (line,) in db.execute("PRAGMA integrity_check(3)") if line != "ok"]
        if errors:
            raise sqlite3.DatabaseError(f"its integrity check failed: {'; '.join(errors)}")
        if db.execute("SELECT count(*) FROM sqlite_schema WHERE name IN ('tasks', 'schema_migrations')").fetchone() != (
            2,
        ):
            raise sqlite3.DatabaseError("it does not have the tables of this service")
        return int(db.execute("SELECT count(*) FROM tasks WHERE deleted_at IS NULL").fetchone()[0])


@contextlib.contextmanager
def _connect(file: Path, mode: str) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(f"{file.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
    with contextlib.closing(db):
        yield db


@contextlib.contextmanager
def _translate_errors(what: str, advice: str) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else error
        raise StoreUnavailable(f"{what}: {reason}. {advice}") from error


def _sync(path: Path) -> None:
    """Syncs a file, or the entries of a folder, to disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
