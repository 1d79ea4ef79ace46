"""How PostgreSQL executes list queries: by an index, on every page. `make bench PARTS=size` uses two million tasks."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import asyncpg
import pytest
from databases import connected
from making import a_task
from stores import open_store

from task_api.store import Write, from_url, listing, postgres_lists, sqlite
from task_api.store.listing import filter_then_sort, has_owner, is_read_in_order, scan_in_order, select
from task_api.store.postgres import EXACT_COUNT, GET_TASK, GET_TASKS
from task_api.store.postgres_lists import find, names, page
from task_api.store.postgres_rows import Dialect
from task_api.store.task_json import KEYS
from task_api.tasks.models import Priority, Status
from task_api.tasks.query import Filters, NameKind, Query, next_page, read_order

ROWS = 20_000
"""Enough rows for PostgreSQL to prefer an index without any hints."""
FEWER = 2_000
LIFELIKE = (Path(__file__).parent / "lifelike.sql").read_text()
NOW = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=700)
"""When the last of them was created."""

PARENT = UUID(f"01990000-0000-7000-8000-{ROWS // 100:012x}")
OPEN = frozenset({Status.TO_DO, Status.IN_PROGRESS})
LISTS = [
    ("tasks_pkey", Filters(), "-created_at"),
    ("tasks_pkey", Filters(status=frozenset({Status.TO_DO})), "-created_at"),
    ("tasks_by_project", Filters(project="project7"), "-created_at"),
    ("tasks_by_project", Filters(project="finished"), "-created_at"),
    ("tasks_by_project", Filters(project="huge"), "created_at"),
    ("tasks_by_assignee", Filters(assignee="somebody7"), "-created_at"),
    ("tasks_by_parent", Filters(parent=PARENT), "-created_at"),
    ("tasks_deleted_by_id", Filters(deleted=True), "-created_at"),
    ("tasks_by_update", Filters(), "-updated_at"),
    ("tasks_by_update", Filters(updated_since=NOW - timedelta(days=7)), "updated_at"),
    ("tasks_sorted_by_due", Filters(), "due"),
    ("tasks_sorted_by_due", Filters(due_after=NOW), "due"),
    ("tasks_sorted_by_due", Filters(due_before=NOW), "-due"),
    ("tasks_open_by_project", Filters(status=OPEN, project="huge"), "due"),
    ("tasks_open_by_project tasks_closed_by_project", Filters(project="huge"), "due"),
    ("tasks_open_by_project tasks_closed_by_project", Filters(project="huge"), "-due"),
    ("tasks_closed_by_project", Filters(status=frozenset({Status.DONE}), project="finished"), "due"),
    ("tasks_sorted_by_start", Filters(), "start_at"),
    ("tasks_sorted_by_completion", Filters(), "-completed_at"),
    ("tasks_sorted_by_completion", Filters(completed_after=NOW - timedelta(days=7)), "completed_at"),
    ("tasks_sorted_by_completion", Filters(completed_before=NOW), "-completed_at"),
    ("tasks_sorted_by_priority", Filters(), "-priority"),
    ("tasks_sorted_by_title", Filters(), "title"),
    ("tasks_sorted_by_position", Filters(), "position"),
]
SORTS = ["-created_at", "created_at", "due", "-due", "-updated_at", "updated_at", "start_at", "-completed_at"]
SORTS += ["-priority", "title", "position"]
OWNERS = ["parent", "assignee", "huge project", "finished project", "small project", "no such project"]
"""In the order of listing.py: the first of these in the filters is used; by due date only a project is."""
NO_INDEX = {"todo", "done", "cancelled"}
CONDITIONS: dict[str, dict[str, Any]] = {
    "todo": {"status": frozenset({Status.TO_DO})},
    "done": {"status": frozenset({Status.DONE})},
    "cancelled": {"status": frozenset({Status.CANCELLED})},
    "urgent": {"priority": frozenset({Priority.URGENT})},
    "half of all": {"label": frozenset({"work"})},
    "the oldest": {"label": frozenset({"old"})},
    "rare": {"label": frozenset({"rare"})},
    "no such label": {"label": frozenset({"none has it"})},
    "labels that never meet": {"label": frozenset({"work", "home"})},
    "huge project": {"project": "huge"},
    "finished project": {"project": "finished"},
    "small project": {"project": "project7"},
    "no such project": {"project": "none has it"},
    "parent": {"parent": PARENT},
    "assignee": {"assignee": "somebody7"},
    "overdue": {"due_before": NOW},
    "due now": {"due_after": NOW, "due_before": NOW + timedelta(days=2)},
    "updated lately": {"updated_since": NOW - timedelta(days=1)},
    "word of all": {"words": frozenset({"task"})},
    "rare word": {"words": frozenset({"word700"})},
    "deleted": {"deleted": True},
    "no project": {"without": frozenset({"project"})},
    "no assignee": {"without": frozenset({"assignee"})},
    "no parent": {"without": frozenset({"parent"})},
    "created lately": {"created_after": NOW - timedelta(days=1)},
    "created early": {"created_before": NOW - timedelta(days=690)},
    "completed lately": {"completed_after": NOW + timedelta(days=15)},
    "completed early": {"completed_before": NOW - timedelta(days=690)},
    "rare prefix": {"prefixes": frozenset({"word70"})},
    "prefix of all": {"prefixes": frozenset({"ta"})},
}
OF_PAIRS = ["todo", "urgent", "half of all", "huge project", "parent", "assignee", "overdue", "updated lately"]
OF_PAIRS += ["rare word", "deleted"]
LATER_PAIRS = [("created lately", "no project"), ("completed early", "no parent"), ("rare prefix", "todo")]
LATER_PAIRS += [("created early", "prefix of all"), ("completed lately", "huge project")]
PAIRS = [*itertools.combinations(OF_PAIRS, 2), ("the oldest", "finished project"), ("word of all", "finished project")]
PAIRS += LATER_PAIRS


async def test_every_list_is_read_in_the_order_of_an_index_on_every_page(postgres_url: str) -> None:
    async with open_store(postgres_url) as store, connected(postgres_url) as db:
        await _fill(db)
        for indexes, filters, sort in LISTS:
            query = Query(filters, read_order(sort))
            for number in range(3):
                plan = await _plan(db, query)
                for index in indexes.split():
                    assert f" {index} " in plan, f"page {number} of {sort} and {filters}:\n{plan}"
                assert "Sort  (" not in plan, f"page {number} of {sort} and {filters}:\n{plan}"
                if not (found := await store.page(query, size=5)):
                    break
                query = next_page(query, found[-1])


async def test_a_list_without_filters_uses_a_cached_plan(postgres_url: str) -> None:
    async with open_store(postgres_url) as store, connected(postgres_url) as db:
        await _fill(db)
        first = Query(Filters(), read_order("-created_at"))
        last = (await store.page(first, size=20))[-1]
        for query in (first, next_page(first, last)):
            statement, values = select(query, 20, KEYS)
            prepared = await db.prepare(statement)
            for _ in range(10):
                await prepared.fetch(*values)
            cached = await db.fetchval(
                "SELECT generic_plans FROM pg_prepared_statements WHERE statement = $1", statement
            )
            assert cached >= 5


async def test_a_list_with_filters_is_planned_for_their_values(postgres_url: str) -> None:
    async with open_store(postgres_url), connected(postgres_url) as db:
        await _fill(db)
        statement, values = select(Query(Filters(status=OPEN)), 20, KEYS)
        prepared = await db.prepare(statement)
        for _ in range(10):
            await prepared.fetch(*values)
        generic = await db.fetchval("SELECT generic_plans FROM pg_prepared_statements WHERE statement = $1", statement)
        assert generic == 0


async def test_a_list_that_is_exactly_in_the_order_of_an_index_takes_no_explain(postgres_url: str) -> None:
    explained = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'EXPLAIN%'"
    lists = [
        (Filters(), "-created_at"),
        (Filters(deleted=True), "-created_at"),
        (Filters(project="huge"), "-created_at"),
        (Filters(updated_since=NOW), "-updated_at"),
        (Filters(due_after=NOW), "due"),
        (Filters(completed_after=NOW), "completed_at"),
    ]
    async with open_store(postgres_url), connected(postgres_url) as db:
        for filters, sort in lists:
            await page(db, Query(filters, read_order(sort)), 5)
            assert await db.fetchval(explained) == 0, f"{sort} and {filters}"
        await page(db, Query(Filters(project="huge"), read_order("title")), 5)
        assert await db.fetchval(explained) == 1


async def test_a_page_that_is_in_one_place_of_an_index_reads_few_other_tasks(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = [
        (Filters(status=frozenset({Status.DONE})), "-completed_at"),
        (Filters(project="finished"), "-created_at,title"),
        (Filters(project="huge", updated_since=NOW - timedelta(days=7)), "-created_at"),
        (Filters(project="huge", status=OPEN, due_after=NOW), "due"),
        (Filters(project="huge"), "due"),
    ]
    _probe(FEWER // 2, monkeypatch)
    async with open_store(postgres_url), connected(postgres_url) as db:
        await _fill(db)
        for filters, sort in lists:
            before = await _reads(db)
            assert len(await page(db, Query(filters, read_order(sort)), 10)) == 10
            reads = await _reads(db) - before
            assert reads <= 100, f"{sort} and {filters}: {reads} reads"


@pytest.mark.parametrize("sort", ["due", "-due"])
async def test_a_page_of_a_project_by_due_date_reads_few_tasks_wherever_it_is(postgres_url: str, sort: str) -> None:
    lists = [
        Filters(project="huge"),
        Filters(project="large"),
        Filters(project="huge", due_before=NOW - timedelta(days=300)),
    ]
    async with open_store(postgres_url), connected(postgres_url) as db:
        await _fill(db)
        for filters in lists:
            first = Query(filters, read_order(sort))
            tasks = await page(db, first, ROWS)
            assert len(tasks) > 500
            pages = {"first": first, "second": next_page(first, tasks[19])}
            pages |= {"middle": next_page(first, tasks[len(tasks) // 2]), "last": next_page(first, tasks[-11])}
            for number in range(7):  # PostgreSQL may change to a generic plan after five
                for name, query in pages.items():
                    before = await _reads(db)
                    found = await page(db, query, 20)
                    reads = await _reads(db) - before
                    assert len(found) == (10 if name == "last" else 20)
                    assert reads <= 100, f"{name} page of {filters}, request {number}: {reads} reads"


@pytest.mark.parametrize("sort", ["due", "-due"])
async def test_a_range_of_due_dates_is_where_the_scan_of_a_project_begins(postgres_url: str, sort: str) -> None:
    """Compared alone, the due date only filters entries of the index, all those of the project."""
    query = Query(Filters(project="huge", due_after=NOW, due_before=NOW + timedelta(days=60)), read_order(sort))
    async with open_store(postgres_url), connected(postgres_url) as db:
        await _fill(db)
        plan = await _plan(db, query)
        for index in ("tasks_open_by_project", "tasks_closed_by_project"):
            condition = plan.partition(f" {index} ")[2].partition("Index Cond: ")[2].partition("\n")[0]
            for operator in (">=", "<"):
                assert f", COALESCE(due, 'infinity'::timestamp with time zone)) {operator} ROW(" in condition, plan


@pytest.mark.parametrize("sort", ["due", "-due"])
async def test_the_probe_of_two_indexes_is_not_sorted(postgres_url: str, sort: str) -> None:
    """Whatever the filters: PostgreSQL has no statistics behind a UNION ALL."""
    query = Query(Filters(project="huge", label=frozenset({"work"})), read_order(sort))
    async with open_store(postgres_url), connected(postgres_url) as db:
        await _fill(db)
        statement, values = scan_in_order(query, 20, postgres_lists.PROBE_ROWS, KEYS)
        plan = "\n".join([row[0] for row in await db.fetch(f"EXPLAIN {statement}", *values)])
        assert "Merge Append" in plan, plan
        assert "Sort  (" not in plan, plan


async def test_a_project_by_due_date_and_another_key_is_not_sorted_as_a_whole(postgres_url: str) -> None:
    async with open_store(postgres_url), connected(postgres_url) as db:
        await _fill(db)
        filters = Filters(project="large")
        before = await _reads(db)
        assert len(await page(db, Query(filters, read_order("due,-priority")), 20)) == 20
        assert await _reads(db) - before < await _count(db, filters) / 2


@pytest.mark.parametrize(
    ("filters", "sort", "order", "merged", "owner"),
    [
        (Filters(project="huge"), "due", "project ASC, step1 ASC, id ASC", True, False),
        (Filters(project="huge"), "due,position", "coalesce(due, $1) ASC, position ASC, id ASC", False, False),
        (Filters(project="huge", status=OPEN), "due", "project ASC, coalesce(due, $1) ASC, id ASC", False, True),
        (
            Filters(project="huge", status=OPEN),
            "due,position",
            "project ASC, coalesce(due, $1) ASC, position ASC, id ASC",
            False,
            True,
        ),
        (
            Filters(project="huge", status=OPEN),
            "position,due",
            "position ASC, coalesce(due, $1) ASC, id ASC",
            False,
            False,
        ),
        (Filters(project="huge", label=frozenset({"work"})), "due", "coalesce(due, $1) ASC, id ASC", False, False),
    ],
)
def test_only_a_list_that_both_indexes_have_in_its_order_is_merged_from_them(
    filters: Filters, sort: str, order: str, *, merged: bool, owner: bool
) -> None:
    """With other filters PostgreSQL plans it without the owner: if it sorts the matches, that is used as is."""
    query = Query(filters, read_order(sort))
    statement, _ = select(query, 20, Dialect())
    assert ("UNION ALL" in statement) is merged
    assert f"ORDER BY {order}".replace("$1", Dialect().never()) in statement
    assert has_owner(query, Dialect()) is owner


def test_every_status_is_in_one_of_the_indexes_by_project_and_due_date() -> None:
    assert set(Status) == listing.OPEN | listing.CLOSED
    assert not listing.OPEN & listing.CLOSED


def test_sqlite_without_indexes_by_project_and_due_compares_the_project() -> None:
    for status in (frozenset[Status](), OPEN):
        statement, _ = select(Query(Filters(status=status, project="huge"), read_order("due")), 20, sqlite.Dialect())
        assert "project = ?" in statement


@pytest.mark.parametrize("rows", [0, 300])
@pytest.mark.parametrize("statement", [GET_TASK, GET_TASKS])
async def test_a_plan_cached_on_a_small_table_uses_the_primary_key(
    statement: str, rows: int, postgres_url: str
) -> None:
    """It is cached until the table is analyzed, and the table may have grown since."""
    async with open_store(postgres_url) as store, connected(postgres_url) as db:
        for _ in range(rows):
            await store.commit([Write(a_task(), "created")], now=NOW)
        await db.execute("SET plan_cache_mode = force_generic_plan")
        await db.execute(f"PREPARE get AS {statement}")
        ids = f"'{{{a_task().id}, {a_task().id}}}'" if statement == GET_TASKS else f"'{a_task().id}'"
        plan = "\n".join(row[0] for row in await db.fetch(f"EXPLAIN EXECUTE get({ids})"))
    assert "Index Scan using tasks_pkey" in plan, plan
    assert "Seq Scan" not in plan, plan


@pytest.mark.timeout(300)
async def test_no_list_reads_more_than_the_probe_and_its_best_index(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _probe(FEWER // 2, monkeypatch)
    async with open_store(postgres_url), connected(postgres_url) as db:
        await _fill(db)
        found = {name: await _count(db, Filters(**conditions)) for name, conditions in CONDITIONS.items()}
        for names in [(name,) for name in CONDITIONS] + PAIRS:
            filters = Filters(**{name: value for chosen in names for name, value in CONDITIONS[chosen].items()})
            best = min([found[name] for name in names if name not in NO_INDEX], default=ROWS)
            for sort in SORTS:
                query = Query(filters, read_order(sort))
                for number in range(2 if len(names) == 1 else 1):
                    before = await _reads(db)
                    tasks = await page(db, query, 20)
                    reads = await _reads(db) - before
                    looks = 0 if is_read_in_order(query, Dialect()) else FEWER + FEWER // 16
                    if has_owner(query, Dialect()):  # if it has not many more, all of them are sorted
                        owners = [name for name in OWNERS if name in names]
                        owner = next(name for name in owners if "project" in name or not sort.endswith("due"))
                        looks = max(looks, 2 * found[owner])
                    # PostgreSQL may use the second best of two indexes, and deleted rows are read as well.
                    most = 20 + 1.1 * (len(tasks) + looks) + 3 * best
                    assert reads <= most, f"page {number} of {sort} and {names}: {reads} reads, {best} found"
                    if len(tasks) < 20:
                        break
                    query = next_page(query, tasks[-1])


async def test_counts_read_a_bounded_number_of_rows(postgres_url: str) -> None:
    async with open_store(postgres_url), connected(postgres_url) as db:
        await _fill(db)
        for kind in get_args(NameKind):
            before = await _reads(db)
            assert not (await names(db, kind, 500, 10)).whole
            assert await _reads(db) - before <= 1_001  # the page and, without an index-only scan, the older row
        for filters, reads in ((Filters(), 600), (Filters(status=frozenset({Status.DONE})), 1_000)):
            before = await _reads(db)
            assert len(await find(db, Query(filters), 501, Dialect("id"))) == 501
            assert await _reads(db) - before <= reads


async def test_a_list_is_the_same_whatever_the_plan(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _probe(0, monkeypatch)
    async with open_store(postgres_url), connected(postgres_url) as db:
        await _fill(db, FEWER)
        for names in [(name,) for name in CONDITIONS] + PAIRS:
            filters = Filters(**{name: value for chosen in names for name, value in CONDITIONS[chosen].items()})
            for sort in (*SORTS, "-priority,due", "start_at,-title"):
                query = Query(filters, read_order(sort))
                statement, values = select(query, 10, Dialect())
                whole = [row["id"] for row in await db.fetch(statement, *values)]
                first = await page(db, query, 5)
                second = await page(db, next_page(query, first[-1]), 5) if len(first) == 5 else []
                assert [task.id for task in first + second] == whole, f"{sort} and {names}"


@pytest.mark.parametrize(("sort", "skips"), [("-completed_at,title", True), ("title,-completed_at", False)])
def test_tasks_that_are_not_completed_are_skipped_if_the_list_would_begin_with_them(sort: str, *, skips: bool) -> None:
    query = Query(Filters(status=frozenset({Status.DONE})), read_order(sort))
    statement, _ = select(query, 20, Dialect())
    where = statement.partition(" WHERE ")[2].partition(" ORDER BY ")[0]
    assert ("completed_at" in where) is skips


async def test_matches_are_sorted_without_their_columns(postgres_url: str) -> None:
    async with open_store(postgres_url), connected(postgres_url) as db:
        await _fill(db, FEWER)
        statement, values = filter_then_sort(Query(Filters(label=frozenset({"work"}))), 20, Dialect())
        (explained,) = json.loads(await db.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *values))
        (limit,) = (node for node in _nodes(explained["Plan"]) if node["Node Type"] == "Limit")
        (sort,) = limit["Plans"]
        assert sort["Node Type"] == "Sort"
        assert sort["Plan Width"] < 50 < sort["Plans"][0]["Plans"][0]["Plan Width"]


@pytest.mark.parametrize("sort", SORTS)
async def test_every_order_in_sqlite_uses_an_index(tmp_path: Path, sort: str) -> None:
    store = from_url(f"sqlite:///{tmp_path}/tasks.db")
    await store.open()
    await store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "tasks.db")) as db:
        for filters in (Filters(), Filters(label=frozenset({"home"}))):
            statement, values = select(Query(filters, read_order(sort)), 20, sqlite.Dialect())
            plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
            assert any("USING INDEX" in step for step in plan), plan
            assert not any("TEMP B-TREE" in step for step in plan), plan


def _probe(reads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every list that PostgreSQL does not sort is expensive enough for a probe, and no scan is longer than twice
    this."""
    monkeypatch.setattr(postgres_lists, "CHEAP_COST", 0)
    monkeypatch.setattr(postgres_lists, "PROBE_ROWS", reads // 8)
    monkeypatch.setattr(postgres_lists, "MAX_ROWS", reads)
    monkeypatch.setattr(postgres_lists, "MAX_ROWS_BY_CREATION", reads)


async def _fill(db: asyncpg.Connection[asyncpg.Record], rows: int = ROWS) -> None:
    await db.execute(LIFELIKE.replace(":rows", str(rows)))
    await db.execute("VACUUM ANALYZE tasks")


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for node in plan.get("Plans", []):
        yield from _nodes(node)


async def _plan(db: asyncpg.Connection[asyncpg.Record], query: Query) -> str:
    statement, values = select(query, 5, KEYS) if is_read_in_order(query, KEYS) else scan_in_order(query, 5, 50, KEYS)
    return "\n".join([row[0] for row in await db.fetch(f"EXPLAIN {statement}", *values)])


async def _count(db: asyncpg.Connection[asyncpg.Record], filters: Filters) -> int:
    """How many there are, including deleted ones."""
    statement, values = select(Query(filters), ROWS, KEYS)
    return len(await db.fetch(statement, *values))


async def _reads(db: asyncpg.Connection[asyncpg.Record]) -> int:
    """The number of rows of the table read by this connection so far, returned or not."""
    await db.execute("SELECT pg_stat_force_next_flush()")
    reads: int = await db.fetchval(
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relid = 'tasks'::regclass"
    )
    return reads


async def test_large_counts_are_estimated_without_deleted_tasks(postgres_url: str) -> None:
    async with open_store(postgres_url) as store, connected(postgres_url) as db:
        await _fill(db)
        await db.execute("UPDATE tasks SET deleted_at = updated_at WHERE position < 5000")
        await db.execute("VACUUM ANALYZE tasks")
        there = await db.fetchval("SELECT count(*) FROM tasks WHERE deleted_at IS NULL")
        assert there > EXACT_COUNT
        assert abs(await store.count() - there) < there / 20
        await db.execute("UPDATE tasks SET deleted_at = updated_at WHERE position > 7000")
        there = await db.fetchval("SELECT count(*) FROM tasks WHERE deleted_at IS NULL")
        assert await store.count() == there  # regardless of the earlier estimate
        await db.execute("DELETE FROM tasks")
        assert await store.count() == 0
