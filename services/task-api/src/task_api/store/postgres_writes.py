"""How PostgreSQL is told what to keep: all of a commit or nothing of it, once, whatever becomes of the connection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from chassis.postgres.batching import SplitBatch
from chassis.postgres.database import transaction
from task_api.store.postgres_rows import FIELDS, ROW, row_of
from task_api.store.protocol import ANSWER_HOURS, Answer, KeyInUse, VersionConflict, Write

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

INSERT = f"INSERT INTO tasks ({FIELDS}, due, words) VALUES ({ROW})"
INSERT_ONCE = f"{INSERT} ON CONFLICT (id) DO NOTHING RETURNING updated_at"
UPDATE = f"UPDATE tasks SET ({FIELDS}, due, words) = ({ROW}) WHERE id = $1 AND version = $23 - 1 RETURNING updated_at"
CHANGE = "INSERT INTO changes (at, type, task) SELECT updated_at, $26, $27 FROM written"
# One statement is one round trip and a transaction of its own. Its answer says how many changes were entered.
CREATE_TASK = f"WITH written AS ({INSERT_ONCE}) {CHANGE}"
REPLACE_TASK = f"WITH written AS ({UPDATE}) {CHANGE}"
# As one of several: an id that is there already is an error, which undoes them all.
CREATE_TASKS = f"WITH written AS ({INSERT} RETURNING updated_at) {CHANGE}"


def keep_answer(first: int) -> str:
    """Waits for a transaction that is just inserting the same key; takes the place of an answer that is too old.

    first: the number of the first of its six values.
    """
    values = ", ".join(f"${n}" for n in range(first, first + 6))
    return f"""
        INSERT INTO answers AS kept (subject, key, fingerprint, status, body, at) VALUES ({values})
        ON CONFLICT (subject, key) DO UPDATE
           SET fingerprint = excluded.fingerprint, status = excluded.status, body = excluded.body, at = excluded.at
         WHERE kept.at <= excluded.at - interval '{ANSWER_HOURS} hours'
    """


KEEP_ANSWER = keep_answer(1)
# Returns the task's id, or nothing where an answer is kept under the key. Four statements, BEGIN and COMMIT among them,
# take 1.3 times the CPU.
KEEP_ANSWER_AND_CREATE_TASK = f"""
    WITH kept AS ({keep_answer(28)} RETURNING 1),
         written AS (INSERT INTO tasks ({FIELDS}, due, words) SELECT {ROW} FROM kept RETURNING id, updated_at),
         entered AS ({CHANGE})
    SELECT id FROM written
"""


@dataclass(frozen=True, eq=False)
class Commit:
    """What is to be kept, as Store.commit is asked for it."""

    writes: Sequence[Write]
    answer: Answer | None
    now: datetime

    @property
    def is_creation(self) -> bool:
        """Whether it is one new task, which depends on nothing that is kept but an answer under its key."""
        return len(self.writes) == 1 and self.writes[0].task.version == 1


async def commit(db: Connection, asked: Commit) -> Answer | None:
    """Keeps it, or returns the answer that is kept under its key. Raises VersionConflict and KeyInUse."""
    if asked.answer is None and len(asked.writes) == 1:
        await _write(db, asked.writes[0])
        return None
    if asked.answer is not None and asked.is_creation:
        return await _create_under_key(db, asked, asked.answer)
    async with transaction(db):
        if asked.answer is not None and (kept := await _keep(db, asked.answer, asked.now)) is not None:
            return kept
        for write in asked.writes:
            await _write(db, write)
    return None


async def create_together(db: Connection, asked: list[Commit]) -> list[Answer | None]:
    """Commits creations in one transaction, in one round trip for those with a key and one for those without."""
    plain = [one for one in asked if one.answer is None]
    keyed = [one for one in asked if one.answer is not None]
    if plain and keyed:
        async with transaction(db):
            await _create_all(db, plain)
            created = await _create_all_under_keys(db, keyed)
    else:
        await _create_all(db, plain)
        created = await _create_all_under_keys(db, keyed)
    return [
        None if one.answer is None or one.writes[0].task.id in created else await _kept(db, one.answer) for one in asked
    ]


async def settle(db: Connection, asked: Commit) -> Answer | None:
    """What `commit` would have returned, where an earlier attempt may have done it."""
    if await _is_committed(db, asked):
        return None
    try:
        return await commit(db, asked)
    except VersionConflict:
        # The server may have been doing it all the while.
        if await _is_committed(db, asked):
            return None
        raise


async def _write(db: Connection, write: Write) -> None:
    statement = CREATE_TASK if write.task.version == 1 else REPLACE_TASK
    entered: str = await db.execute(statement, *_values(write))
    if entered != "INSERT 0 1":
        raise VersionConflict


async def _create_all(db: Connection, asked: list[Commit]) -> None:
    if asked:
        await db.executemany(CREATE_TASKS, [_values(one.writes[0]) for one in asked])


async def _create_all_under_keys(db: Connection, asked: list[Commit]) -> set[UUID]:
    """The ids of those that were created: the others' keys have an answer."""
    if not asked:
        return set()
    values = [(*_values(one.writes[0]), *_columns(one.answer, one.now)) for one in asked if one.answer is not None]
    try:
        rows = await db.fetchmany(KEEP_ANSWER_AND_CREATE_TASK, values)
    except asyncpg.LockNotAvailableError as error:
        raise SplitBatch from error  # only one of the keys is in use
    return {row["id"] for row in rows}


async def _create_under_key(db: Connection, asked: Commit, answer: Answer) -> Answer | None:
    values = (*_values(asked.writes[0]), *_columns(answer, asked.now))
    try:
        created = await db.fetchval(KEEP_ANSWER_AND_CREATE_TASK, *values)
    except asyncpg.LockNotAvailableError as error:
        raise KeyInUse from error
    except asyncpg.UniqueViolationError as error:
        raise VersionConflict from error
    return await _kept(db, answer) if created is None else None


async def _keep(db: Connection, answer: Answer, now: datetime) -> Answer | None:
    """Keeps `answer`, or returns the one that is kept under its key already."""
    try:
        entered: str = await db.execute(KEEP_ANSWER, *_columns(answer, now))
    except asyncpg.LockNotAvailableError as error:
        raise KeyInUse from error
    return None if entered == "INSERT 0 1" else await _kept(db, answer)


async def _kept(db: Connection, answer: Answer) -> Answer:
    """What is kept under the same key."""
    row = await db.fetchrow(
        "SELECT fingerprint, status, body FROM answers WHERE subject = $1 AND key = $2", answer.subject, answer.key
    )
    assert row is not None, "the insert met it, and the purge takes only old ones"
    return Answer(answer.subject, answer.key, row["fingerprint"], row["status"], row["body"])


async def _is_committed(db: Connection, asked: Commit) -> bool:
    """Whether the transaction whose COMMIT nobody heard of took place. All of its writes did, or none.

    Its ids were made before it, so what it entered can be told from what anybody else did.
    """
    if asked.answer is not None:
        kept = "SELECT body FROM answers WHERE subject = $1 AND key = $2"
        return bool(await db.fetchval(kept, asked.answer.subject, asked.answer.key) == asked.answer.body)
    first = asked.writes[0]
    entered = "SELECT EXISTS (SELECT FROM changes WHERE at = $1 AND task = $2)"
    return bool(await db.fetchval(entered, first.task.updated_at, first.json))


def _values(write: Write) -> tuple[object, ...]:
    return (*row_of(write.task), write.type, write.json)


def _columns(answer: Answer, now: datetime) -> tuple[object, ...]:
    return answer.subject, answer.key, answer.fingerprint, answer.status, answer.body, now
