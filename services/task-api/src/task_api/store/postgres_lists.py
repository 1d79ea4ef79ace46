"""How a page of a list is read from PostgreSQL, so that it costs what it returns and not what the table has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import asyncpg

from chassis.postgres.database import transaction
from task_api.store.listing import gather, has_index, has_owner, is_read_in_order, select, walk
from task_api.store.postgres_rows import Dialect, task_of
from task_api.store.protocol import Names
from task_api.tasks.models import Task
from task_api.tasks.query import NameKind, Query

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

NEAR = 1_000
"""By the planner's costs, of which this is about 10 ms: what all of a list costs at most that is read as it likes."""

LOOK = 2_500
"""So many tasks are looked through in the order of a list first, 2 to 8 ms: what is wanted is often among the first."""

FAR, FAR_AMONG_THE_NEWEST = 12_500, 25_000
"""How far the end of the page may be, going by what was found until then; it is read twice as far, for luck. In the
order of creation they lie on the disk, and cost a third."""

SHARE = 20
"""At least it may be a twentieth of what the filters are believed to find: to sort that costs twenty times as much."""

WHOLE = Dialect()
"""Asks for all of a task."""

BY_FILTERS = """
    SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off;
    SET LOCAL work_mem = '32MB'; SET LOCAL jit = off; SET LOCAL plan_cache_mode = force_custom_plan
"""
"""What leaves PostgreSQL bitmap scans, which read what meets the filters and nothing else; with less memory they forget
which tasks of a page of the disk do, and jit would compile for longer than they run."""


async def page(db: Connection, query: Query, size: int) -> list[Task]:
    """The tasks of a page."""
    return [task_of(row) for row in await find(db, query, size, WHOLE)]


async def find(db: Connection, query: Query, size: int, dialect: Dialect) -> list[asyncpg.Record]:
    """The rows of a page.

    PostgreSQL either sorts what the filters find, or reads in the order of the list until the page is full and
    guesses how far that is. Where filters exclude each other, or go along with the order, it reads the whole table. So
    where it would do that a look tells how far it is, and what is too far is sorted from what the filters find.
    """
    statement, values = select(query, size, dialect)
    # With several steps the index has the order of the first, and what is equal in it is sorted.
    if is_read_in_order(query, dialect) or not has_index(query, dialect) or len(query.order) > 1:
        return await db.fetch(statement, *values)
    plan = await _plan(db, statement, values)
    if _worst(plan) < NEAR or (_sorts(plan) and not has_owner(query)):
        return await db.fetch(statement, *values)
    look = max(LOOK, size)
    found = await _fetched(db, walk(query, size, look, dialect))
    share = plan["Plans"][0]["Plan Rows"] // SHARE if "Plans" in plan else 0
    far = max(FAR_AMONG_THE_NEWEST if query.order[0].key == "created_at" else FAR, share)
    reads = look * size // len(found) if found else share // 2
    if len(found) < size and look < reads <= far:
        found = await _fetched(db, walk(query, size, 2 * reads, dialect))
    if len(found) == size:
        return found
    async with transaction(db):
        await db.execute(BY_FILTERS)
        return await _fetched(db, gather(query, size, dialect))


async def names(db: Connection, kind: NameKind, among: int, most: int) -> Names:
    """As the store's: the newest tasks lie together on the disk, and no more than those are read."""
    name, source = ("one.name", "newest, unnest(labels) AS one (name)") if kind == "label" else (kind, "newest")
    rows = await db.fetch(f"""
        WITH newest AS (SELECT labels, project, assignee, deleted_at FROM tasks ORDER BY id DESC LIMIT {among})
        SELECT {name} AS name, count(*) AS tasks FROM {source} WHERE deleted_at IS NULL AND {name} IS NOT NULL
         GROUP BY 1 ORDER BY 2 DESC, {name} COLLATE "C" LIMIT {most + 1}
    """)
    older = await db.fetchval(f"SELECT id FROM tasks ORDER BY id DESC OFFSET {among} LIMIT 1")
    counts = tuple((row["name"], row["tasks"]) for row in rows[:most])
    return Names(counts, whole=older is None and len(rows) <= most)


async def _fetched(db: Connection, asked: tuple[str, list[Any]]) -> list[asyncpg.Record]:
    statement, values = asked
    return await db.fetch(statement, *values)


async def _plan(db: Connection, statement: str, values: list[Any]) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads(await db.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *values))[0]["Plan"]
    return plan


def _sorts(plan: dict[str, Any]) -> bool:
    """Whether PostgreSQL sorts all that the filters find, rather than read in the order of the list."""
    return plan["Node Type"] == "Sort" or any(_sorts(node) for node in plan.get("Plans", []))


def _worst(limit: dict[str, Any]) -> float:
    """The cost of the whole list."""
    cost: float = limit.get("Plans", [limit])[0]["Total Cost"]
    return cost
