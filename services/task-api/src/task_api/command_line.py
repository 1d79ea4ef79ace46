"""What this service can be told on the command line, beside what every service with PostgreSQL can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from chassis.service import Command
from chassis.storage import StoreUnavailable
from task_api.store import Store, sqlite_backup
from task_api.store.sqlite import SQLiteStore


class TaskApi(Protocol):
    """The service, which knows these commands."""

    store: Store

    async def open(self) -> None: ...

    async def close(self) -> None: ...


async def _back_up(service: TaskApi, file: str) -> None:
    database = _sqlite_file(service, "pg_dump --format=custom --file=FILE --dbname=URL")
    tasks = sqlite_backup.back_up(database, Path(file))
    print(f"{tasks} tasks of {database.absolute()} are in {file}, and it was checked that it is whole.")


async def _restore(service: TaskApi, file: str) -> None:
    database = _sqlite_file(
        service, "pg_restore --clean --if-exists --single-transaction --exit-on-error --no-owner --dbname=URL FILE"
    )
    tasks, before = sqlite_backup.restore(Path(file), database)
    try:
        await service.open()  # a backup of an older release has its schema
    finally:
        await service.close()
    print(f"{tasks} tasks of {file} are in {database.absolute()}.")
    if before is not None:
        print(f"What was there before is in {before}. Remove that once you are sure.")


def _sqlite_file(service: TaskApi, with_postgresql: str) -> Path:
    match service.store:
        case SQLiteStore() as store:
            return store.path
        case store if store.kind == "memory":
            raise StoreUnavailable(
                "Tasks are kept in memory, and there is no file of them. TASKS_DATABASE_URL says where else."
            )
        case _:
            raise StoreUnavailable(
                "Tasks are in PostgreSQL, which has commands of its own."
                f" In a cluster: make backup, make restore FILE=... Anywhere else: {with_postgresql}"
            )


BACKUP = Command(
    "backup",
    "copy the SQLite file of TASKS_DATABASE_URL, while the service runs or not",
    _back_up,
    {"file": "the file to write, which must not be there"},
)
RESTORE = Command(
    "restore",
    "put a backup in the place of what is in the SQLite file of TASKS_DATABASE_URL, while the service runs or not",
    _restore,
    {"file": "a file that `backup` wrote"},
)
