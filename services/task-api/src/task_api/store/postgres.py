"""Tasks in PostgreSQL: what replicas share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from chassis.postgres.database import Database, Limits, Use, transaction
from task_api.store import migrations
from task_api.store.metrics import metrics
from task_api.store.postgres_lists import find, names, page
from task_api.store.postgres_rows import FIELDS, ROW, Dialect, row_of, task_of
from task_api.store.protocol import (
    ANSWER_HOURS,
    Answer,
    ChangesPurged,
    KeyInUse,
    Names,
    OtherHistory,
    StoredChange,
    VersionConflict,
    Write,
    WrongPosition,
)
from task_api.tasks.models import Task
from task_api.tasks.query import Filters, NameKind, Query

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

GET_TASK = f"SELECT {FIELDS} FROM tasks WHERE id = $1"
GET_TASKS = f"SELECT {FIELDS} FROM tasks WHERE id = ANY ($1::uuid[])"
INSERT = f"INSERT INTO tasks ({FIELDS}, due, words) VALUES ({ROW}) ON CONFLICT (id) DO NOTHING RETURNING updated_at"
UPDATE = f"UPDATE tasks SET ({FIELDS}, due, words) = ({ROW}) WHERE id = $1 AND version = $23 - 1 RETURNING updated_at"
CHANGE = "INSERT INTO changes (at, type, task) SELECT updated_at, $26, $27 FROM written"
# One statement is one round trip and a transaction of its own. Its answer says how many changes were entered.
CREATE_TASK = f"WITH written AS ({INSERT}) {CHANGE}"
REPLACE_TASK = f"WITH written AS ({UPDATE}) {CHANGE}"
# Waits for a transaction that is just inserting the same key; takes the place of an answer that is too old.
KEEP_ANSWER = f"""
    INSERT INTO answers AS kept (subject, key, fingerprint, status, body, at) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (subject, key) DO UPDATE
       SET fingerprint = excluded.fingerprint, status = excluded.status, body = excluded.body, at = excluded.at
     WHERE kept.at <= $6 - interval '{ANSWER_HOURS} hours'
"""

SETTLED = "(SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint + changes_ahead())::text::xid8)"
"""What is older than every transaction still running: nothing can appear before it any more."""

PURGE_SECONDS = 60.0

EXACT_COUNT = 10_000
"""Up to so many tasks are counted one by one, above it PostgreSQL's own estimate is taken: counting a million takes
a tenth of a second of its CPU."""

MIGRATION_LOCK = 0x7461736B
"""`task` in ASCII."""


class PostgresStore(Database):
    def __init__(self, url: str, *, limits: Limits, wait_seconds: float) -> None:
        use = Use("task-api", "TASKS_DATABASE_URL", migrations.FOLDER / "postgres", MIGRATION_LOCK, metrics)
        super().__init__(url, use, limits=limits, wait_seconds=wait_seconds)
        self._by_id = self._joined(one=GET_TASK, many=GET_TASKS)

    async def commit(self, writes: Sequence[Write], answer: Answer | None = None, *, now: datetime) -> Answer | None:
        async def commit(db: Connection) -> Answer | None:
            if answer is None and len(writes) == 1:
                await _write(db, writes[0])
                return None
            async with transaction(db):
                if answer is not None and (kept := await _keep_answer(db, answer, now)) is not None:
                    return kept
                for write in writes:
                    await _write(db, write)
            return None

        async def settle(db: Connection) -> Answer | None:
            if await _is_committed(db, writes, answer):
                return None
            try:
                return await commit(db)
            except VersionConflict:
                # The server may have been doing it all the while.
                if await _is_committed(db, writes, answer):
                    return None
                raise

        return await self._run(commit, settle)

    async def answer(self, subject: str, key: str, *, now: datetime) -> Answer | None:
        statement = "SELECT fingerprint, status, body FROM answers WHERE subject = $1 AND key = $2 AND at > $3"
        oldest = now - timedelta(hours=ANSWER_HOURS)
        row = await self._run(lambda db: db.fetchrow(statement, subject, key, oldest))
        return None if row is None else Answer(subject, key, row["fingerprint"], row["status"], row["body"])

    async def get(self, task_id: UUID) -> Task | None:
        row = await self._by_id.get(task_id)
        return None if row is None else task_of(row)

    async def get_many(self, task_ids: Sequence[UUID]) -> dict[UUID, Task]:
        rows = await self._run(lambda db: db.fetch(GET_TASKS, list(task_ids)))
        return {task.id: task for task in map(task_of, rows)}

    async def page(self, query: Query, *, size: int) -> list[Task]:
        return await self._run(lambda db: page(db, query, size))

    async def count_found(self, filters: Filters, *, most: int) -> int:
        # Found as a page is, but without the tasks themselves.
        return len(await self._run(lambda db: find(db, Query(filters), most, Dialect("id"))))

    async def names(self, kind: NameKind, *, among: int, most: int) -> Names:
        return await self._run(lambda db: names(db, kind, among, most))

    async def changes(self, after: str | None, *, size: int) -> list[StoredChange]:
        xid, number = ("0", 0) if after is None else _position(after)
        statement = f"""
            SELECT xid::text || '.' || number AS position, type, task FROM changes
             WHERE (xid, number) > ($1::text::xid8, $2) AND xid < {SETTLED}
             ORDER BY changes.xid, number LIMIT $3
        """
        place = """
            SELECT ($1::text::xid8, $2::bigint) < (xid, number) AS purged,
                   ($1::text::xid8, $2) = (xid, number)
                   OR EXISTS (SELECT FROM changes WHERE xid = $1::text::xid8 AND number = $2) AS known
              FROM changes_purged
        """

        async def read(db: Connection) -> list[asyncpg.Record]:
            rows = await db.fetch(statement, xid, number, size)
            if after is not None:
                # Asked after reading: what a purge removed meanwhile is noticed.
                found = await db.fetchrow(place, xid, number)
                assert found is not None, "changes_purged has one row"
                if found["purged"]:
                    raise ChangesPurged
                if not found["known"]:
                    raise OtherHistory
            return rows

        rows = await self._run(read)
        return [StoredChange(row["position"], row["type"], Task.model_validate_json(row["task"])) for row in rows]

    async def last_position(self) -> str:
        newest = f"""
            SELECT xid::text || '.' || number FROM (
                (SELECT xid, number FROM changes WHERE xid < {SETTLED}
                  ORDER BY xid DESC, number DESC LIMIT 1)
                UNION ALL SELECT xid, number FROM changes_purged
            ) AS all_of_them ORDER BY all_of_them.xid DESC, number DESC LIMIT 1
        """
        return str(await self._run(lambda db: db.fetchval(newest)))

    async def purge(self, *, deleted_before: datetime, answers_before: datetime) -> int:
        async def purge(connection: Connection) -> int:
            async with transaction(connection):
                await connection.execute(f"SET LOCAL statement_timeout = '{PURGE_SECONDS:.0f}s'")
                gone: str = await connection.execute("DELETE FROM tasks WHERE deleted_at < $1", deleted_before)
                settled = await connection.fetchval(f"SELECT {SETTLED}::text")
                # Up to the first entry that stays: none before it may stay either, or the feed would have a gap.
                await connection.execute(
                    """
                    WITH stays AS (SELECT xid, number FROM changes WHERE at >= $1 ORDER BY xid, number LIMIT 1),
                         goes AS (DELETE FROM changes
                                   WHERE xid < $2::text::xid8
                                     AND (NOT EXISTS (SELECT FROM stays)
                                          OR (xid, number) < (SELECT xid, number FROM stays))
                               RETURNING xid, number),
                         last AS (SELECT xid, number FROM goes ORDER BY xid DESC, number DESC LIMIT 1)
                    UPDATE changes_purged AS purged SET xid = last.xid, number = last.number
                      FROM last WHERE (last.xid, last.number) > (purged.xid, purged.number)
                    """,
                    deleted_before,
                    settled,
                )
                await connection.execute("DELETE FROM answers WHERE at < $1", answers_before)
            return int(gone.removeprefix("DELETE "))

        return await self._run(purge, seconds=PURGE_SECONDS)

    async def count(self) -> int:
        # Of the whole table and of its index of the deleted ones; -1 where it was never estimated.
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
             WHERE xid >= {SETTLED}
        """
        return max(0.0, float(await self._run(lambda db: db.fetchval(statement))))


async def _write(db: Connection, write: Write) -> None:
    statement = CREATE_TASK if write.task.version == 1 else REPLACE_TASK
    entered: str = await db.execute(statement, *row_of(write.task), write.type, write.json)
    if entered != "INSERT 0 1":
        raise VersionConflict


async def _keep_answer(db: Connection, answer: Answer, now: datetime) -> Answer | None:
    """Keeps `answer`, or returns the one that is kept under its key already."""
    try:
        entered: str = await db.execute(
            KEEP_ANSWER, answer.subject, answer.key, answer.fingerprint, answer.status, answer.body, now
        )
    except asyncpg.LockNotAvailableError as error:
        raise KeyInUse from error
    if entered == "INSERT 0 1":
        return None
    row = await db.fetchrow(
        "SELECT fingerprint, status, body FROM answers WHERE subject = $1 AND key = $2", answer.subject, answer.key
    )
    assert row is not None, "the insert met it, and the purge takes only old ones"
    return Answer(answer.subject, answer.key, row["fingerprint"], row["status"], row["body"])


async def _is_committed(db: Connection, writes: Sequence[Write], answer: Answer | None) -> bool:
    """Whether the transaction whose COMMIT nobody heard of took place. All of its writes did, or none.

    Its ids were made before it, so what it entered can be told from what anybody else did.
    """
    if answer is not None:
        kept = "SELECT body FROM answers WHERE subject = $1 AND key = $2"
        return bool(await db.fetchval(kept, answer.subject, answer.key) == answer.body)
    first = writes[0].task
    entered = "SELECT EXISTS (SELECT FROM changes WHERE at = $1 AND task = $2)"
    return bool(await db.fetchval(entered, first.updated_at, first.model_dump_json()))


def _position(text: str) -> tuple[str, int]:
    xid, _, number = text.partition(".")
    if not (text.isascii() and xid.isdigit() and number.isdigit() and len(xid) < 19 and len(number) < 19):
        raise WrongPosition
    return str(int(xid)), int(number)  # 08 would be octal to PostgreSQL
