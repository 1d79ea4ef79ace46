"""The service with an injected bug that loses, repeats or rejects writes: the tests must detect it.

python planted.py BUG serve
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any
from unittest.mock import patch

from chassis.postgres import database
from chassis.postgres.batching import Batcher
from chassis.server import _Server
from task_api.__main__ import main
from task_api.store import IdempotencyRecord, Write, url
from task_api.store.postgres import PostgresStore
from task_api.store.sqlite import PendingWrite, SQLiteStore

DELAY_SECONDS = 0.05

Commit = Callable[..., Awaitable[IdempotencyRecord | None]]

real_commit = SQLiteStore.commit
pending_commits: set[asyncio.Task[IdempotencyRecord | None]] = set()


def acknowledge_before(commit: Commit) -> Commit:
    """Acknowledges first, and commits shortly after."""

    async def acknowledge(*args: Any, **kwargs: Any) -> IdempotencyRecord | None:
        async def later() -> IdempotencyRecord | None:
            await asyncio.sleep(DELAY_SECONDS)
            return await commit(*args, **kwargs)

        task = asyncio.create_task(later())
        pending_commits.add(task)
        task.add_done_callback(pending_commits.discard)
        return None

    return acknowledge


class AcknowledgesBatchBeforeCommit(Batcher[Any, Any]):
    """Acknowledges a group first, and commits it shortly after."""

    def __init__(
        self,
        *args: Any,
        execute_one: Callable[..., Awaitable[Any]],
        execute_many: Callable[..., Awaitable[Any]],
        **kwargs: Any,
    ) -> None:
        async def one(db: Any, item: Any) -> Any:
            await asyncio.sleep(DELAY_SECONDS)  # others arrive: a fast server has no groups of this few clients
            return await execute_one(db, item)

        async def many(db: Any, items: list[Any]) -> Any:
            await asyncio.sleep(4 * DELAY_SECONDS)  # longer than the delay before each kill
            return await execute_many(db, items)

        super().__init__(*args, execute_one=one, execute_many=many, **kwargs)

    async def _execute(self, item: Any, batch: Any, db: Any) -> Any:
        if self._settle is not None:
            for waiter in self._waiters:
                if not waiter.future.done():
                    waiter.future.set_result(None)
        return await super()._execute(item, batch, db)


class AcknowledgesGroupBeforeCommit(SQLiteStore):
    """Acknowledges a group after its statements, and commits it shortly after."""

    def _commit(self, connection: sqlite3.Connection, group: list[PendingWrite]) -> list[Any]:
        loop = group[0].done.get_loop()

        def acknowledge(_db: sqlite3.Connection) -> None:
            for write in group:
                loop.call_soon_threadsafe(write.done.set_result, None)
            time.sleep(DELAY_SECONDS)

        group.append(PendingWrite(acknowledge, 1, loop.create_future()))
        return super()._commit(connection, group)


async def store_record_after_commit(
    self: SQLiteStore, writes: Sequence[Write], record: IdempotencyRecord | None = None, *, now: datetime
) -> IdempotencyRecord | None:
    """Stores the idempotency record in a separate transaction."""
    if record is None:
        return await real_commit(self, writes, now=now)
    # Looked up first, as real code does: without a fault in between, every retry gets the correct response.
    if (existing := await self._run(lambda db: _existing(db, record))) is not None:
        return existing
    await real_commit(self, writes, now=now)
    await asyncio.sleep(DELAY_SECONDS)
    return await real_commit(self, [], record, now=now)


def _existing(db: sqlite3.Connection, record: IdempotencyRecord) -> IdempotencyRecord | None:
    columns = "SELECT subject, key, fingerprint, status, body FROM idempotency_records WHERE subject = ? AND key = ?"
    row = db.execute(columns, (record.subject, record.key)).fetchone()
    return None if row is None else IdempotencyRecord(*row)


def join_in_flight(get: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Joins a read to a statement for the same row that is already in flight.

    Not used by `plant`: test_joined_reads.py uses it in its own process, to ensure that such a statement is in flight.
    """
    in_flight: dict[object, asyncio.Future[Any]] = {}

    async def join(self: Batcher[Any, Any], item: object) -> Any:
        key = (self, item)
        if key not in in_flight:
            in_flight[key] = asyncio.ensure_future(get(self, item))
            in_flight[key].add_done_callback(lambda _: in_flight.pop(key))
        return await asyncio.shield(in_flight[key])

    return join


def exit_without_drain(self: _Server) -> None:
    """Exits on the first signal, even with requests in flight."""
    self.force_shutdown()


def plant(bug: str) -> None:
    """Injects the bug into the service."""
    match bug:
        case "acknowledge-before-commit":
            for store in (SQLiteStore, PostgresStore):
                patch.object(store, "commit", acknowledge_before(store.commit)).start()
        case "acknowledge-group-before-commit":
            patch.object(url, "SQLiteStore", AcknowledgesGroupBeforeCommit).start()
            patch.object(database, "Batcher", AcknowledgesBatchBeforeCommit).start()
        case "response-outside-the-transaction":
            patch.object(SQLiteStore, "commit", store_record_after_commit).start()
        case "no-drain":
            patch.object(_Server, "drain", exit_without_drain).start()
        case _:
            raise ValueError(bug)


if __name__ == "__main__":
    plant(sys.argv.pop(1))
    sys.exit(main())
