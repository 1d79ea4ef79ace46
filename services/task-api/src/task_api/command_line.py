"""The commands of this service, in addition to those of every service with PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from chassis.service import Command
from chassis.storage import StoreUnavailable
from task_api.store import Store, sqlite_backup
from task_api.store.sqlite import SQLiteStore


class TaskApi(Protocol):
    """The service that has these commands."""

    store: Store

    async def open(self) -> None: ...

    async def close(self) -> None: ...


async def _back_up(service: TaskApi, file: str) -> None:
    database = _sqlite_file(service, "pg_dump --format=custom --file=FILE --dbname=URL")
    tasks = sqlite_backup.back_up(database, Path(file))
    print(f"Backed up {tasks} tasks of {database.absolute()} to {file} and verified it.")


async def _restore(service: TaskApi, file: str) -> None:
    database = _sqlite_file(
        service, "pg_restore --clean --if-exists --single-transaction --exit-on-error --no-owner --dbname=URL FILE"
    )
    tasks, before = sqlite_backup.restore(Path(file), database)
    try:
        await service.open()  # migrates the schema of a backup of an older release
    finally:
        await service.close()
    print(f"Restored {tasks} tasks of {file} to {database.absolute()}.")
    if before is not None:
        print(f"The previous contents are in {before}. Remove that file when you no longer need it.")


def _sqlite_file(service: TaskApi, with_postgresql: str) -> Path:
    match service.store:
        case SQLiteStore() as store:
            return store.path
        case store if store.kind == "memory":
            raise StoreUnavailable(
                "Tasks are stored in memory, so there is no file. TASKS_DATABASE_URL sets the storage."
            )
        case _:
            raise StoreUnavailable(
                "Tasks are stored in PostgreSQL, which has its own backup tools."
                f" In a cluster: make backup, make restore FILE=... Elsewhere: {with_postgresql}"
            )


BACKUP = Command(
    "backup",
    "back up the SQLite file of TASKS_DATABASE_URL, even while the service runs",
    _back_up,
    {"file": "the file to write, which must not exist"},
)
RESTORE = Command(
    "restore",
    "replace the contents of the SQLite file of TASKS_DATABASE_URL with a backup, even while the service runs",
    _restore,
    {"file": "a file that `backup` wrote"},
)
