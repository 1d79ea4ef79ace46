"""How PostgreSQL finds what lists ask for: by an index, on every page. `make bench` measures it on a million tasks."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import asyncpg
from databases import connected
from stores import opened

from task_api.store.listing import select
from task_api.store.postgres import EXACT_COUNT
from task_api.store.postgres_rows import Dialect
from task_api.tasks.models import Status
from task_api.tasks.query import Filters, Query, read_order, sort_value

ROWS = 20_000
"""Enough for PostgreSQL to prefer an index by itself: nothing here tells it to."""

FILL = f"""
    INSERT INTO tasks
    SELECT ('01990000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'Task ' || n % 5000, NULL, 'todo', n % 5,
           due, NULL, due, NULL,
           ARRAY['home', 'label' || n % 1000], 'project' || n % 100,
           ('01990000-0000-7000-8000-' || lpad(to_hex(n % 100), 12, '0'))::uuid, 'somebody' || n % 100, 0, NULL, n,
           '{{}}', timestamptz '2026-01-01Z' + n * interval '1 second',
           timestamptz '2026-01-01Z' + n * interval '1 second', NULL,
           CASE WHEN n % 1000 = 0 THEN timestamptz '2026-11-01Z' END, 1,
           array_to_tsvector(ARRAY['task', 'word' || n % 1000])
      FROM generate_series(1, {ROWS}) AS n,
           LATERAL (SELECT CASE WHEN n % 2 = 0 THEN timestamptz '2026-12-01Z' + n * interval '1 minute' END) AS d (due)
"""


PARENT = UUID("01990000-0000-7000-8000-000000000007")
LISTS = [
    ("tasks_pkey", Filters(), "-created_at"),
    ("tasks_pkey", Filters(status=frozenset({Status.TO_DO})), "-created_at"),
    ("tasks_by_project", Filters(project="project7"), "-created_at"),
    ("tasks_by_assignee", Filters(assignee="somebody7"), "-created_at"),
    ("tasks_by_parent", Filters(parent=PARENT), "-created_at"),
    ("tasks_by_update", Filters(), "-updated_at"),
    ("tasks_by_update", Filters(updated_since=datetime(2026, 1, 1, 5, tzinfo=UTC)), "updated_at"),
    ("tasks_sorted_by_due", Filters(), "due"),
    ("tasks_sorted_by_start", Filters(), "start_at"),
    ("tasks_sorted_by_completion", Filters(), "-completed_at"),
    ("tasks_sorted_by_priority", Filters(), "-priority"),
    ("tasks_sorted_by_title", Filters(), "title"),
    ("tasks_sorted_by_position", Filters(), "position"),
]
SEARCHES = [
    ("tasks_by_words", Filters(words=frozenset({"word7"}))),
    ("tasks_by_label", Filters(label=frozenset({"label7"}))),
    ("tasks_by_due", Filters(due_before=datetime(2026, 12, 1, 3, tzinfo=UTC))),
    ("tasks_by_update", Filters(updated_since=datetime(2026, 1, 1, 5, 33, tzinfo=UTC))),
    ("tasks_deleted", Filters(deleted=True)),
]


async def test_every_list_is_read_in_the_order_of_an_index_on_every_page(postgres_url: str) -> None:
    async with opened(postgres_url) as store, connected(postgres_url) as db:
        await db.execute(FILL)
        await db.execute("VACUUM ANALYZE tasks")
        for index, filters, sort in LISTS:
            query = Query(filters, read_order(sort))
            for page in range(3):
                plan = await _plan(db, query)
                assert f" {index} " in plan, f"page {page} of {sort} and {filters}:\n{plan}"
                assert "Sort" not in plan, f"page {page} of {sort} and {filters}:\n{plan}"
                last = (await store.page(query, size=20))[-1]
                query = Query(
                    filters, query.order, (tuple(sort_value(last, step.key) for step in query.order), last.id)
                )


async def test_a_list_without_filters_is_not_planned_anew_each_time(postgres_url: str) -> None:
    async with opened(postgres_url) as store, connected(postgres_url) as db:
        await db.execute(FILL)
        await db.execute("VACUUM ANALYZE tasks")
        first = Query(Filters(), read_order("-created_at"))
        last = (await store.page(first, size=20))[-1]
        for query in (first, Query(first.filters, first.order, ((sort_value(last, "created_at"),), last.id))):
            statement, values = select(query, 20, Dialect())
            prepared = await db.prepare(statement)
            for _ in range(10):
                await prepared.fetch(*values)
            kept = await db.fetchval("SELECT generic_plans FROM pg_prepared_statements WHERE statement = $1", statement)
            assert kept >= 5


async def test_every_search_finds_its_tasks_by_an_index(postgres_url: str) -> None:
    async with opened(postgres_url), connected(postgres_url) as db:
        await db.execute(FILL)
        await db.execute("VACUUM ANALYZE tasks")
        for index, filters in SEARCHES:
            plan = await _plan(db, Query(filters))
            assert f" {index} " in plan, f"{filters}:\n{plan}"


async def _plan(db: asyncpg.Connection[asyncpg.Record], query: Query) -> str:
    statement, values = select(query, 20, Dialect())
    return "\n".join([row[0] for row in await db.fetch(f"EXPLAIN {statement}", *values)])


async def test_more_tasks_than_are_counted_are_estimated_without_the_deleted_ones(postgres_url: str) -> None:
    async with opened(postgres_url) as store, connected(postgres_url) as db:
        await db.execute(FILL)
        await db.execute("UPDATE tasks SET deleted_at = updated_at WHERE position < 5000")
        await db.execute("VACUUM ANALYZE tasks")
        there = await db.fetchval("SELECT count(*) FROM tasks WHERE deleted_at IS NULL")
        assert there > EXACT_COUNT
        assert abs(await store.count() - there) < there / 20
        await db.execute("UPDATE tasks SET deleted_at = updated_at WHERE position > 7000")
        there = await db.fetchval("SELECT count(*) FROM tasks WHERE deleted_at IS NULL")
        assert await store.count() == there  # whatever was estimated before
        await db.execute("DELETE FROM tasks")
        assert await store.count() == 0
