"""How a page of a list is read from PostgreSQL, so that it costs what it returns and not what the table has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import asyncpg

from chassis.postgres.database import transaction
from task_api.store.listing import gather, has_index, is_read_in_order, matching, select, walk
from task_api.store.postgres_rows import Dialect, task_of
from task_api.tasks.models import Task
from task_api.tasks.query import Query

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

FEW_READS, MORE_READS = 250, 10_000
"""How many tasks are looked through in the order of a list before its filters' indexes are asked: few always, more
where these would find more than that. Of two million, a page of one in a hundred is there after 5,000 in its order, and
its index finds 20,000; of one in a thousand it is the other way around."""

BY_FILTERS = """
    SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off;
    SET LOCAL work_mem = '32MB'; SET LOCAL jit = off; SET LOCAL plan_cache_mode = force_custom_plan
"""
"""What leaves PostgreSQL bitmap scans, which read what meets the filters and nothing else; with less memory they forget
which tasks of a page of the disk do, and jit would compile for longer than they run."""


async def page(db: Connection, query: Query, size: int) -> list[Task]:
    """Where no index has the list in its order, PostgreSQL guesses how far it has to read in another one's order until
    the page is full. Where filters exclude each other, or go along with the order, it reads the whole table. So here
    it reads so far and no further, and then what the filters' own indexes find."""
    dialect = Dialect()
    if is_read_in_order(query, dialect):
        return await _fetched(db, select(query, size, dialect))
    few = max(FEW_READS, 5 * size)
    if (found := await _walked(db, query, size, few)) is not None:
        return found
    if not has_index(query, dialect):
        return await _fetched(db, select(query, size, dialect))
    more = max(MORE_READS, 8 * few)
    if await _estimate(db, query) > more and (found := await _walked(db, query, size, more)) is not None:
        return found
    async with transaction(db):
        await db.execute(BY_FILTERS)
        return await _fetched(db, gather(query, size, dialect))


async def _fetched(db: Connection, statement: tuple[str, list[Any]]) -> list[Task]:
    text, values = statement
    return [task_of(row) for row in await db.fetch(text, *values)]


async def _walked(db: Connection, query: Query, size: int, reads: int) -> list[Task] | None:
    """The page, or None where it is not within so many reads."""
    statement, values = walk(query, size, reads, Dialect())
    rows = await db.fetch(statement, *values)
    if rows and rows[-1]["read"] == reads:
        return None
    return [task_of(row[:-1]) for row in rows]


async def _estimate(db: Connection, query: Query) -> int:
    """How many tasks the filters find, as PostgreSQL's statistics have it."""
    statement, values = matching(query, Dialect())
    plan = json.loads(await db.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *values))
    return int(plan[0]["Plan"]["Plan Rows"])
