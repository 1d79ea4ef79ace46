"""Tasks in PostgreSQL, shared by all replicas."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from chassis.postgres.database import Database, DatabaseConfig, Limits, rows_by_key, transaction
from task_api.store import migrations
from task_api.store.metrics import metrics
from task_api.store.postgres_lists import find, names, page
from task_api.store.postgres_rows import FIELDS, Dialect, select_by_ids, task_of
from task_api.store.postgres_writes import Commit, commit, create_together, settle
from task_api.store.protocol import (
    IDEMPOTENCY_HOURS,
    ChangesPurged,
    IdempotencyRecord,
    InvalidFeedCursor,
    Names,
    OtherHistory,
    StoredChange,
    TaskJson,
    VersionedJson,
    Write,
)
from task_api.store.task_json import MAX_CACHE_BYTES, TaskJsonCache
from task_api.tasks.models import Task
from task_api.tasks.query import Filters, NameKind, Query

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

GET_TASK = f"SELECT {FIELDS} FROM tasks WHERE id = $1"
GET_TASKS = select_by_ids(FIELDS)

VISIBLE_BEFORE = "(SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint + changes_ahead())::text::xid8)"
"""Older than every running transaction: no entry can appear before it any more."""

PURGE_SECONDS = 60.0

EXACT_COUNT = 10_000
"""Up to this number tasks are counted exactly; above it PostgreSQL's estimate is used: counting a million takes a tenth
of a second of its CPU."""

MIGRATION_LOCK = 0x7461736B
"""`task` in ASCII."""


class PostgresStore(Database):
    def __init__(self, url: str, *, limits: Limits, wait_seconds: float) -> None:
        config = DatabaseConfig(
            "task-api", "TASKS_DATABASE_URL", migrations.FOLDER / "postgres", MIGRATION_LOCK, metrics
        )
        super().__init__(url, config, limits=limits, wait_seconds=wait_seconds)
        self._json = TaskJsonCache(MAX_CACHE_BYTES)
        self._by_id = self._batch_reads(rows_by_key(one=GET_TASK, many=GET_TASKS))
        self._json_by_id = self._batch_reads(self._json.by_ids)
        self._creations = self._batch_writes(execute_one=commit, execute_many=create_together, settle=settle)

    async def commit(
        self, writes: Sequence[Write], record: IdempotencyRecord | None = None, *, now: datetime
    ) -> IdempotencyRecord | None:
        request = Commit(writes, record, now)
        if request.is_creation:
            return await self._creations.submit(request)
        return await self._run(lambda db: commit(db, request), lambda db: settle(db, request))

    async def get_record(self, subject: str, key: str, *, now: datetime) -> IdempotencyRecord | None:
        statement = """
            SELECT fingerprint, status, body FROM idempotency_records WHERE subject = $1 AND key = $2 AND at > $3
        """
        oldest = now - timedelta(hours=IDEMPOTENCY_HOURS)
        row = await self._run(lambda db: db.fetchrow(statement, subject, key, oldest))
        return None if row is None else IdempotencyRecord(subject, key, row["fingerprint"], row["status"], row["body"])

    async def get(self, task_id: UUID) -> Task | None:
        row = await self._by_id.submit(task_id)
        return None if row is None else task_of(row)

    async def get_json(self, task_id: UUID) -> VersionedJson | None:
        return await self._json_by_id.submit(task_id)

    async def get_many(self, task_ids: Sequence[UUID]) -> dict[UUID, Task]:
        rows = await self._run(lambda db: db.fetch(GET_TASKS, list(task_ids)))
        return {task.id: task for task in map(task_of, rows)}

    async def page(self, query: Query, *, size: int) -> list[Task]:
        return await self._run(lambda db: page(db, query, size))

    async def page_json(self, query: Query, *, size: int) -> list[TaskJson]:
        return await self._run(lambda db: self._json.page(db, query, size))

    async def count_found(self, filters: Filters, *, limit: int) -> int:
        # The same query as for a page, without the tasks themselves.
        return len(await self._run(lambda db: find(db, Query(filters), limit, Dialect("id"))))

    async def names(self, kind: NameKind, *, scan: int, limit: int) -> Names:
        return await self._run(lambda db: names(db, kind, scan, limit))

    async def changes(self, after: str | None, *, size: int) -> list[StoredChange]:
        xid, number = ("0", 0) if after is None else _parse_cursor(after)
        statement = f"""
            SELECT xid::text || '.' || number AS cursor, type, task FROM changes
             WHERE (xid, number) > ($1::text::xid8, $2) AND xid < {VISIBLE_BEFORE}
             ORDER BY changes.xid, number LIMIT $3
        """
        cursor_state = """
            SELECT ($1::text::xid8, $2::bigint) < (xid, number) AS purged,
                   ($1::text::xid8, $2) = (xid, number)
                   OR EXISTS (SELECT FROM changes WHERE xid = $1::text::xid8 AND number = $2) AS known
              FROM changes_purged
        """

        async def read(db: Connection) -> list[asyncpg.Record]:
            rows = await db.fetch(statement, xid, number, size)
            if after is not None:
                # Checked after reading, to detect a concurrent purge.
                found = await db.fetchrow(cursor_state, xid, number)
                assert found is not None, "changes_purged has one row"
                if found["purged"]:
                    raise ChangesPurged
                if not found["known"]:
                    raise OtherHistory
            return rows

        rows = await self._run(read)
        return [StoredChange(row["cursor"], row["type"], Task.model_validate_json(row["task"])) for row in rows]

    async def last_cursor(self) -> str:
        newest = f"""
            SELECT xid::text || '.' || number FROM (
                (SELECT xid, number FROM changes WHERE xid < {VISIBLE_BEFORE}
                  ORDER BY xid DESC, number DESC LIMIT 1)
                UNION ALL SELECT xid, number FROM changes_purged
            ) AS candidates ORDER BY candidates.xid DESC, number DESC LIMIT 1
        """
        return str(await self._run(lambda db: db.fetchval(newest)))

    async def purge(self, *, deleted_before: datetime, records_before: datetime) -> int:
        async def purge(connection: Connection) -> int:
            async with transaction(connection):
                await connection.execute(f"SET LOCAL statement_timeout = '{PURGE_SECONDS:.0f}s'")
                deleted: str = await connection.execute("DELETE FROM tasks WHERE deleted_at < $1", deleted_before)
                visible_before = await connection.fetchval(f"SELECT {VISIBLE_BEFORE}::text")
                # Up to the first entry to keep: all before it go, so that the feed has no gap.
                await connection.execute(
                    """
                    WITH kept AS (SELECT xid, number FROM changes WHERE at >= $1 ORDER BY xid, number LIMIT 1),
                         purged AS (DELETE FROM changes
                                   WHERE xid < $2::text::xid8
                                     AND (NOT EXISTS (SELECT FROM kept)
                                          OR (xid, number) < (SELECT xid, number FROM kept))
                               RETURNING xid, number),
                         last AS (SELECT xid, number FROM purged ORDER BY xid DESC, number DESC LIMIT 1)
                    UPDATE changes_purged AS through SET xid = last.xid, number = last.number
                      FROM last WHERE (last.xid, last.number) > (through.xid, through.number)
                    """,
                    deleted_before,
                    visible_before,
                )
                await connection.execute("DELETE FROM idempotency_records WHERE at < $1", records_before)
            return int(deleted.removeprefix("DELETE "))

        return await self._run(purge, seconds=PURGE_SECONDS)

    async def count(self) -> int:
        # Estimates of the whole table and of its index of deleted tasks; -1 if never analyzed.
        statement = f"""
            SELECT CASE WHEN counted <= {EXACT_COUNT} THEN counted ELSE greatest(counted, estimated) END FROM
                (SELECT count(*) AS counted FROM
                    (SELECT FROM tasks WHERE deleted_at IS NULL LIMIT {EXACT_COUNT + 1}) AS first_ones) AS exact,
                (SELECT sum(CASE oid WHEN 'tasks'::regclass THEN reltuples ELSE -greatest(reltuples, 0) END)::bigint
                        AS estimated
                   FROM pg_class WHERE oid IN ('tasks'::regclass, 'tasks_deleted'::regclass)) AS statistics
        """
        return int(await self._run(lambda db: db.fetchval(statement)))

    async def feed_lag(self) -> float:
        statement = f"""
            SELECT coalesce(extract(epoch FROM clock_timestamp() - min(at)), 0)::float8 FROM changes
             WHERE xid >= {VISIBLE_BEFORE}
        """
        return max(0.0, float(await self._run(lambda db: db.fetchval(statement))))


def _parse_cursor(text: str) -> tuple[str, int]:
    xid, _, number = text.partition(".")
    if not (text.isascii() and xid.isdigit() and number.isdigit() and len(xid) < 19 and len(number) < 19):
        raise InvalidFeedCursor
    return str(int(xid)), int(number)  # PostgreSQL would read 08 as octal
