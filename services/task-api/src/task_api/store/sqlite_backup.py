"""A copy of a SQLite file that is in use, and the way back, by SQLite's own backup API.

`cp` is no backup: what was committed last is in the -wal file beside it, and pages change while it copies.
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
    """Writes what is committed in `database` to the new file `file`, and returns how many tasks that are.

    Others read and write meanwhile. `file` is there once it is whole, checked and on the disk; readable by its owner
    alone. Raises StoreUnavailable, and leaves nothing then.
    """
    if not database.is_file():
        raise StoreUnavailable(
            f"There is no SQLite file {database.absolute()} to back up. TASKS_DATABASE_URL says where it is."
        )
    if file.exists() and file.samefile(database):
        raise StoreUnavailable(f"{file} is the file that the tasks are in. Name another one for the backup.")
    if file.exists():
        raise StoreUnavailable(f"{file} is there already, and is not overwritten. Name another file, or remove it.")
    with _in_sentences(f"Cannot back up {database.absolute()} to {file}", "Nothing is left of the try."):
        # In a folder of its own, which goes with all that SQLite puts beside a file.
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=file.parent) as folder:
            copy = Path(folder, file.name)
            _copy(database, copy)
            tasks = _checked(copy)
            copy.chmod(0o600)
            _sync(copy)
            copy.rename(file)
        _sync(file.parent)
    return tasks


def restore(file: Path, database: Path) -> tuple[int, Path | None]:
    """Puts what is in the backup `file` in the place of what is in `database`, all of it or nothing.

    One transaction to others that have it open: they may go on. Returns how many tasks the backup has, and where what
    was there before is kept. Raises StoreUnavailable, and nothing has changed then.
    """
    if not file.is_file():
        raise StoreUnavailable(f"There is no file {file}. Name a backup, as `backup` made it.")
    if database.exists() and file.samefile(database):
        raise StoreUnavailable(f"{file} is the file that the tasks are in already. Name a backup of it.")
    with _in_sentences(f"Cannot restore {file}", "Nothing was changed. Name another backup."):
        tasks = _checked(file)
    before = None
    if database.exists():
        before = database.with_name(f"{database.name}.before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
        back_up(database, before)
    with _in_sentences(f"Cannot restore {file} to {database.absolute()}", "Nothing was changed."):
        database.parent.mkdir(parents=True, exist_ok=True)
        _copy(file, database, mode="rwc")
    return tasks, before


def _copy(source: Path, target: Path, *, mode: str = "") -> None:
    """mode: how the target is opened; without one it is a file of its own, with nothing beside it."""
    deadline = time.monotonic() + LOCKED_SECONDS

    def wait(status: int, _remaining: int, _total: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > deadline:
            raise StoreUnavailable(
                f"Another process has locked {source} or {target} for {LOCKED_SECONDS:g} s. Nothing was changed."
                " See which one: fuser FILE"
            )

    with _opened(source, "rw") as db, _opened(target, mode or "rwc") as copy:
        db.backup(copy, progress=wait)  # in one step: in WAL mode a reader, which holds no writer up
        if not mode:
            copy.execute("PRAGMA journal_mode = DELETE")


def _checked(file: Path) -> int:
    """How many tasks a backup has. Raises sqlite3.Error where it is none."""
    with _opened(file, "ro") as db:
        wrong = [str(line) for (line,) in db.execute("PRAGMA integrity_check(3)") if line != "ok"]
        if wrong:
            raise sqlite3.DatabaseError(f"its check found: {'; '.join(wrong)}")
        if db.execute("SELECT count(*) FROM sqlite_schema WHERE name IN ('tasks', 'schema_migrations')").fetchone() != (
            2,
        ):
            raise sqlite3.DatabaseError("it has no tables of tasks")
        return int(db.execute("SELECT count(*) FROM tasks WHERE deleted_at IS NULL").fetchone()[0])


@contextlib.contextmanager
def _opened(file: Path, mode: str) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(f"{file.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
    with contextlib.closing(db):
        yield db


@contextlib.contextmanager
def _in_sentences(what: str, then: str) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else error
        raise StoreUnavailable(f"{what}: {reason}. {then}") from error


def _sync(path: Path) -> None:
    """Has what was written reach the disk, a file or the names in a folder."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
