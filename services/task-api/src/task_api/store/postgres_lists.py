"""Reads pages of lists from PostgreSQL at a cost that follows the page or its matches, not the table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import asyncpg

from chassis.postgres.database import transaction
from task_api.store.listing import filter_then_sort, has_index, has_owner, is_read_in_order, scan_in_order, select
from task_api.store.postgres_rows import Dialect, task_of
from task_api.store.protocol import Names
from task_api.tasks.models import Task
from task_api.tasks.query import NameKind, Query

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

CHEAP_COST = 1_000
"""Planner cost, about 10 ms: below it a list is read by PostgreSQL's own plan."""

PROBE_ROWS = 2_500
"""Number of tasks scanned in list order first, 2 to 8 ms: matches are often among the first."""

MAX_ROWS, MAX_ROWS_BY_CREATION = 12_500, 25_000
"""Maximum distance of the end of the page, extrapolated from the matches so far; twice as many rows are scanned, as a
margin. In creation order rows are adjacent on disk and cost a third."""

SHARE = 20
"""The distance may always be 1/20 of the estimated number of matches: sorting those costs twenty times as much."""

ALL_FIELDS = Dialect()

BITMAP_SCANS_ONLY = """
    SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off;
    SET LOCAL work_mem = '32MB'; SET LOCAL jit = off; SET LOCAL plan_cache_mode = force_custom_plan
"""
"""Leaves PostgreSQL only bitmap scans, which read nothing but matching rows; with less work_mem the bitmap becomes
lossy, and JIT compilation would take longer than the query."""


async def page(db: Connection, query: Query, size: int) -> list[Task]:
    """The tasks of a page."""
    return [task_of(row) for row in await find(db, query, size, ALL_FIELDS)]


async def find(db: Connection, query: Query, size: int, dialect: Dialect) -> list[asyncpg.Record]:
    """The rows of a page.

    PostgreSQL either sorts all matches, or scans in list order until the page is full and estimates how far that is.
    Where filters exclude each other, or correlate with the order, it scans the whole table. So before such a scan a
    bounded probe measures the distance; if it is too far, all matches are found by the filters' indexes and sorted.
    """
    statement, values = select(query, size, dialect)
    # With several sort keys the index has the order of the first, and ties are sorted.
    if is_read_in_order(query, dialect) or not has_index(query, dialect) or len(query.order) > 1:
        return await db.fetch(statement, *values)
    plan = await _plan(db, statement, values)
    if _total_cost(plan) < CHEAP_COST or (_sorts(plan) and not has_owner(query, dialect)):
        return await db.fetch(statement, *values)
    probe = max(PROBE_ROWS, size)
    found = await _fetch(db, scan_in_order(query, size, probe, dialect))
    share = plan["Plans"][0]["Plan Rows"] // SHARE if "Plans" in plan else 0
    max_rows = max(MAX_ROWS_BY_CREATION if query.order[0].key == "created_at" else MAX_ROWS, share)
    estimate = probe * size // len(found) if found else share // 2
    if len(found) < size and probe < estimate <= max_rows:
        found = await _fetch(db, scan_in_order(query, size, 2 * estimate, dialect))
    if len(found) == size:
        return found
    async with transaction(db):
        await db.execute(BITMAP_SCANS_ONLY)
        return await _fetch(db, filter_then_sort(query, size, dialect))


async def names(db: Connection, kind: NameKind, scan: int, limit: int) -> Names:
    """See Store.names. The newest tasks are adjacent on disk, and no others are read."""
    name, source = ("one.name", "newest, unnest(labels) AS one (name)") if kind == "label" else (kind, "newest")
    rows = await db.fetch(f"""
        WITH newest AS (SELECT labels, project, assignee, deleted_at FROM tasks ORDER BY id DESC LIMIT {scan})
        SELECT {name} AS name, count(*) AS tasks FROM {source} WHERE deleted_at IS NULL AND {name} IS NOT NULL
         GROUP BY 1 ORDER BY 2 DESC, {name} COLLATE "C" LIMIT {limit + 1}
    """)
    older = await db.fetchval(f"SELECT id FROM tasks ORDER BY id DESC OFFSET {scan} LIMIT 1")
    counts = tuple((row["name"], row["tasks"]) for row in rows[:limit])
    return Names(counts, whole=older is None and len(rows) <= limit)


async def _fetch(db: Connection, query: tuple[str, list[Any]]) -> list[asyncpg.Record]:
    statement, values = query
    return await db.fetch(statement, *values)


async def _plan(db: Connection, statement: str, values: list[Any]) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads(await db.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *values))[0]["Plan"]
    return plan


def _sorts(plan: dict[str, Any]) -> bool:
    """Whether the plan sorts all matches, rather than scans in list order."""
    return plan["Node Type"] == "Sort" or any(_sorts(node) for node in plan.get("Plans", []))


def _total_cost(limit: dict[str, Any]) -> float:
    """The cost of the whole list, without the LIMIT."""
    cost: float = limit.get("Plans", [limit])[0]["Total Cost"]
    return cost
