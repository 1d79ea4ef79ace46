"""Commits in PostgreSQL: atomic, and applied exactly once even if the connection is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from chassis.postgres.batching import SplitBatch
from chassis.postgres.database import transaction
from task_api.store.postgres_rows import FIELD_COUNT, FIELDS, ROW, ROW_SIZE, row_of
from task_api.store.protocol import (
    IDEMPOTENCY_HOURS,
    IdempotencyKeyInUse,
    IdempotencyRecord,
    VersionConflict,
    Write,
)

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

INSERT = f"INSERT INTO tasks ({FIELDS}, due, words) VALUES ({ROW})"
INSERT_ONCE = f"{INSERT} ON CONFLICT (id) DO NOTHING RETURNING updated_at"
UPDATE = (
    f"UPDATE tasks SET ({FIELDS}, due, words) = ({ROW}) WHERE id = $1 AND version = ${FIELD_COUNT} - 1"
    " RETURNING updated_at"
)
CHANGE = f"INSERT INTO changes (at, type, task) SELECT updated_at, ${ROW_SIZE + 1}, ${ROW_SIZE + 2} FROM written"
# One statement is one round trip and its own transaction. Its command tag has the number of changes inserted.
CREATE_TASK = f"WITH written AS ({INSERT_ONCE}) {CHANGE}"
REPLACE_TASK = f"WITH written AS ({UPDATE}) {CHANGE}"
# For several at once: an existing id is an error, which rolls back all of them.
CREATE_TASKS = f"WITH written AS ({INSERT} RETURNING updated_at) {CHANGE}"


def insert_record(first: int) -> str:
    """Inserts an idempotency record. Waits for a concurrent insert of the same key; replaces an expired record.

    first: the number of the first of its six placeholders.
    """
    values = ", ".join(f"${n}" for n in range(first, first + 6))
    return f"""
        INSERT INTO idempotency_records AS existing (subject, key, fingerprint, status, body, at) VALUES ({values})
        ON CONFLICT (subject, key) DO UPDATE
           SET fingerprint = excluded.fingerprint, status = excluded.status, body = excluded.body, at = excluded.at
         WHERE existing.at <= excluded.at - interval '{IDEMPOTENCY_HOURS} hours'
    """


INSERT_RECORD = insert_record(1)
# Returns the task's id, or no row if the key already has a record. Four statements, including BEGIN and COMMIT, would
# take 1.3 times the CPU.
INSERT_RECORD_AND_CREATE_TASK = f"""
    WITH inserted AS ({insert_record(ROW_SIZE + 3)} RETURNING 1),
         written AS (INSERT INTO tasks ({FIELDS}, due, words) SELECT {ROW} FROM inserted RETURNING id, updated_at),
         change AS ({CHANGE})
    SELECT id FROM written
"""


@dataclass(frozen=True, eq=False)
class Commit:
    """The arguments of Store.commit."""

    writes: Sequence[Write]
    record: IdempotencyRecord | None
    now: datetime

    @property
    def is_creation(self) -> bool:
        """Whether it is a single new task, which depends on no stored data except an idempotency record."""
        return len(self.writes) == 1 and self.writes[0].task.version == 1


async def commit(db: Connection, request: Commit) -> IdempotencyRecord | None:
    """Commits, or returns the existing idempotency record. Raises VersionConflict and IdempotencyKeyInUse."""
    if request.record is None and len(request.writes) == 1:
        await _write(db, request.writes[0])
        return None
    if request.record is not None and request.is_creation:
        return await _create_with_record(db, request, request.record)
    async with transaction(db):
        if request.record is not None:
            existing = await _insert_record(db, request.record, request.now)
            if existing is not None:
                return existing
        for write in request.writes:
            await _write(db, write)
    return None


async def create_together(db: Connection, requests: list[Commit]) -> list[IdempotencyRecord | None]:
    """Commits creations in one transaction: one round trip for those with a key and one for those without."""
    plain = [request for request in requests if request.record is None]
    keyed = [request for request in requests if request.record is not None]
    if plain and keyed:
        async with transaction(db):
            await _create_all(db, plain)
            created = await _create_all_with_records(db, keyed)
    else:
        await _create_all(db, plain)
        created = await _create_all_with_records(db, keyed)
    return [
        None
        if request.record is None or request.writes[0].task.id in created
        else await _existing_record(db, request.record)
        for request in requests
    ]


async def settle(db: Connection, request: Commit) -> IdempotencyRecord | None:
    """Resolves an in-doubt commit: what `commit` would have returned, whether or not an earlier attempt succeeded."""
    if await _is_committed(db, request):
        return None
    try:
        return await commit(db, request)
    except VersionConflict:
        # The server may have still been executing the earlier attempt.
        if await _is_committed(db, request):
            return None
        raise


async def _write(db: Connection, write: Write) -> None:
    statement = CREATE_TASK if write.task.version == 1 else REPLACE_TASK
    status: str = await db.execute(statement, *_values(write))
    if status != "INSERT 0 1":
        raise VersionConflict


async def _create_all(db: Connection, requests: list[Commit]) -> None:
    if requests:
        await db.executemany(CREATE_TASKS, [_values(request.writes[0]) for request in requests])


async def _create_all_with_records(db: Connection, requests: list[Commit]) -> set[UUID]:
    """The ids of the created tasks; the keys of the others already have a record."""
    if not requests:
        return set()
    values = [
        (*_values(request.writes[0]), *_record_values(request.record, request.now))
        for request in requests
        if request.record is not None
    ]
    try:
        rows = await db.fetchmany(INSERT_RECORD_AND_CREATE_TASK, values)
    except asyncpg.LockNotAvailableError as error:
        raise SplitBatch from error  # only one of the keys is in use
    return {row["id"] for row in rows}


async def _create_with_record(db: Connection, request: Commit, record: IdempotencyRecord) -> IdempotencyRecord | None:
    values = (*_values(request.writes[0]), *_record_values(record, request.now))
    try:
        created = await db.fetchval(INSERT_RECORD_AND_CREATE_TASK, *values)
    except asyncpg.LockNotAvailableError as error:
        raise IdempotencyKeyInUse from error
    except asyncpg.UniqueViolationError as error:
        raise VersionConflict from error
    return await _existing_record(db, record) if created is None else None


async def _insert_record(db: Connection, record: IdempotencyRecord, now: datetime) -> IdempotencyRecord | None:
    """Inserts `record`, or returns the existing record of its key."""
    try:
        status: str = await db.execute(INSERT_RECORD, *_record_values(record, now))
    except asyncpg.LockNotAvailableError as error:
        raise IdempotencyKeyInUse from error
    return None if status == "INSERT 0 1" else await _existing_record(db, record)


async def _existing_record(db: Connection, record: IdempotencyRecord) -> IdempotencyRecord:
    """The stored record with the same key."""
    row = await db.fetchrow(
        "SELECT fingerprint, status, body FROM idempotency_records WHERE subject = $1 AND key = $2",
        record.subject,
        record.key,
    )
    assert row is not None, "the insert conflicted with it, and the purge deletes only expired records"
    return IdempotencyRecord(record.subject, record.key, row["fingerprint"], row["status"], row["body"])


async def _is_committed(db: Connection, request: Commit) -> bool:
    """Whether the transaction of an in-doubt COMMIT was committed. All of its writes were, or none.

    Its ids were made before it, so its entries can be distinguished from those of other clients.
    """
    if request.record is not None:
        stored = "SELECT body FROM idempotency_records WHERE subject = $1 AND key = $2"
        return bool(await db.fetchval(stored, request.record.subject, request.record.key) == request.record.body)
    first = request.writes[0]
    committed = "SELECT EXISTS (SELECT FROM changes WHERE at = $1 AND task = $2)"
    return bool(await db.fetchval(committed, first.task.updated_at, first.json))


def _values(write: Write) -> tuple[object, ...]:
    return (*row_of(write.task), write.type, write.json)


def _record_values(record: IdempotencyRecord, now: datetime) -> tuple[object, ...]:
    return record.subject, record.key, record.fingerprint, record.status, record.body, now
