"""Lists are assembled from cached JSON, and always match the database."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import asyncpg
import pytest
from databases import connected
from making import NOW, a_task
from stores import open_store

from task_api.store import Write, postgres, task_json
from task_api.store.memory import MemoryStore
from task_api.store.postgres import PostgresStore
from task_api.store.postgres_lists import find
from task_api.store.postgres_rows import Dialect
from task_api.store.task_json import OVERHEAD_BYTES, TaskJsonCache
from task_api.tasks.models import Task, to_json
from task_api.tasks.preconditions import list_etag
from task_api.tasks.query import Query, next_page, read_order

LIST = Query(order=read_order("title"))


async def create(store: PostgresStore, *tasks: Task) -> None:
    await store.commit([Write(task, "created") for task in tasks], now=NOW)


async def titles(store: PostgresStore) -> list[str]:
    return [Task.model_validate_json(content).title for _, content in await store.page_json(LIST, size=10)]


def between_statements(change: Callable[[], Awaitable[object]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs `change` once, after the keys of the next page were read."""
    changes = [change]

    async def find_then_change(
        db: asyncpg.Connection[asyncpg.Record], query: Query, size: int, dialect: Dialect
    ) -> list[asyncpg.Record]:
        rows = await find(db, query, size, dialect)
        if changes:
            await changes.pop()()
        return rows

    monkeypatch.setattr(task_json, "find", find_then_change)


async def test_an_update_by_another_pod_is_visible_at_once(postgres_url: str) -> None:
    async with open_store(postgres_url) as store, open_store(postgres_url) as pod:
        first, second = a_task(title="a"), a_task(title="b")
        await create(store, first, second)
        assert await titles(store) == ["a", "b"]
        changed = first.model_copy(update={"title": "z", "version": 2})
        await pod.commit([Write(changed, "updated")], now=NOW)
        assert await titles(store) == ["b", "z"]


async def test_a_row_changed_by_hand_is_visible_though_version_and_time_are_the_same(postgres_url: str) -> None:
    async with open_store(postgres_url) as store, connected(postgres_url) as db:
        await create(store, a_task(title="a"))
        assert await titles(store) == ["a"]
        await db.execute("UPDATE tasks SET title = 'b'")
        assert await titles(store) == ["b"]


async def test_a_restored_row_is_visible_though_version_and_time_are_the_same(postgres_url: str) -> None:
    async with open_store(postgres_url) as store, connected(postgres_url) as db:
        await create(store, a_task(title="a"))
        await db.execute("CREATE TABLE backup AS SELECT * FROM tasks; UPDATE backup SET title = 'restored'")
        assert await titles(store) == ["a"]
        await db.execute("TRUNCATE tasks; INSERT INTO tasks SELECT * FROM backup")
        assert await titles(store) == ["restored"]


async def test_a_page_is_consistent_if_a_task_is_updated_between_two_statements(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(postgres_url) as store, open_store(postgres_url) as pod:
        first, second = a_task(title="a"), a_task(title="b")
        await create(store, first, second)
        changed = first.model_copy(update={"title": "z", "version": 2})
        between_statements(lambda: pod.commit([Write(changed, "updated")], now=NOW), monkeypatch)
        assert await titles(store) == ["b", "z"]


async def test_a_page_is_consistent_if_a_task_is_removed_between_two_statements(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(postgres_url) as store, connected(postgres_url) as db:
        await create(store, a_task(title="a"), a_task(title="b"))
        between_statements(lambda: db.execute("DELETE FROM tasks WHERE title = 'a'"), monkeypatch)
        assert await titles(store) == ["b"]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Those that are fetched from now on."""
    fetched: list[str] = []
    fetch = asyncpg.Connection.fetch

    async def recorded(db: asyncpg.Connection[asyncpg.Record], statement: str, *values: object) -> object:
        fetched.append(statement)
        return await fetch(db, statement, *values)

    monkeypatch.setattr(asyncpg.Connection, "fetch", recorded)
    return fetched


async def test_a_cached_page_takes_one_statement_that_reads_only_keys(postgres_url: str, statements: list[str]) -> None:
    async with open_store(postgres_url) as store:
        await create(store, a_task(title="a"), a_task(title="b"))
        for _ in range(3):
            statements.clear()
            assert await titles(store) == ["a", "b"]
    (statement,) = statements
    assert "description" not in statement


async def test_an_updated_task_of_a_cached_page_is_the_only_row_that_is_read(
    postgres_url: str, statements: list[str]
) -> None:
    async with open_store(postgres_url) as store:
        first, *others = (a_task(title=title) for title in "abc")
        await create(store, first, *others)
        for _ in range(3):
            await titles(store)
        await store.commit([Write(first.model_copy(update={"title": "z", "version": 2}), "updated")], now=NOW)
        statements.clear()
        assert await titles(store) == ["b", "c", "z"]
    assert [statement == task_json.ROWS_OF_MANY for statement in statements] == [False, True]


async def test_a_reader_of_a_list_that_is_not_cached_soon_takes_one_statement_per_page(
    postgres_url: str, statements: list[str]
) -> None:
    async with open_store(postgres_url) as store:
        await create(store, *(a_task(title=f"{n:02}") for n in range(12)))
        query, counts = LIST, []
        for _ in range(6):
            statements.clear()
            page = [Task.model_validate_json(content) for _, content in await store.page_json(query, size=2)]
            counts.append(len(statements))
            query = next_page(query, page[-1])
    assert counts == [2, 2, 1, 1, 1, 1]


@pytest.mark.parametrize("reads", [1, 2], ids=["rows-were-read", "keys-were-read"])
async def test_a_list_of_which_half_was_cached_is_next_read_by_its_keys(
    postgres_url: str, reads: int, statements: list[str]
) -> None:
    async with open_store(postgres_url) as store:
        await create(store, a_task(title="a"), a_task(title="b"))
        for _ in range(reads):
            await titles(store)
        await create(store, a_task(title="c"), a_task(title="d"))
        for _ in range(2):
            statements.clear()
            assert await titles(store) == ["a", "b", "c", "d"]
    (statement,) = statements
    assert "description" not in statement


async def test_a_task_is_read_from_the_cache_and_always_current(postgres_url: str) -> None:
    """Also where only another pod, or somebody by hand, changed it."""
    async with open_store(postgres_url) as store, open_store(postgres_url) as pod, connected(postgres_url) as db:
        task = a_task(title="a")
        await create(store, task)
        for _ in range(3):
            assert await store.get_json(task.id) == (1, to_json(task))
        changed = task.model_copy(update={"title": "b", "version": 2})
        await pod.commit([Write(changed, "updated")], now=NOW)
        assert await store.get_json(task.id) == (2, to_json(changed))
        await db.execute("UPDATE tasks SET title = 'c'")
        by_hand = changed.model_copy(update={"title": "c"})
        assert await store.get_json(task.id) == (2, to_json(by_hand))
        deleted = by_hand.model_copy(update={"version": 3, "deleted_at": NOW})
        await pod.commit([Write(deleted, "deleted")], now=NOW)
        assert await store.get_json(task.id) is None
        await db.execute("UPDATE tasks SET deleted_at = NULL")
        assert await store.get_json(task.id) == (3, to_json(deleted.model_copy(update={"deleted_at": None})))


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    ("change", "later"), [("UPDATE tasks SET title = 'z' WHERE title = 'a'", "z"), ("DELETE FROM tasks", None)]
)
async def test_a_task_that_is_not_cached_is_read_as_it_is_when_its_row_is_read(
    postgres_url: str, several: bool, change: str, later: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key was read before."""
    async with open_store(postgres_url) as store, connected(postgres_url) as db, connected(postgres_url) as other:
        task = a_task(title="a")
        await create(store, task)
        changes = [change]
        fetch = asyncpg.Connection.fetch

        async def fetch_then_change(
            db: asyncpg.Connection[asyncpg.Record], statement: str, *values: object
        ) -> list[asyncpg.Record]:
            rows: list[asyncpg.Record] = await fetch(db, statement, *values)
            if changes:
                await other.execute(changes.pop())
            return rows

        monkeypatch.setattr(asyncpg.Connection, "fetch", fetch_then_change)
        ids = [task.id, a_task().id] if several else [task.id]
        found = await TaskJsonCache(task_json.MAX_CACHE_BYTES).by_ids(db, ids)
        expected = None if later is None else (1, to_json(task.model_copy(update={"title": later})))
        assert found == [expected, None][: len(ids)]


async def test_a_cached_task_takes_one_statement_that_reads_only_its_key(
    postgres_url: str, statements: list[str]
) -> None:
    async with open_store(postgres_url) as store:
        task = a_task()
        await create(store, task)
        for _ in range(3):
            statements.clear()
            await store.get_json(task.id)
    assert statements == [task_json.KEY_OF_ONE]


async def test_readers_of_tasks_that_are_not_cached_soon_take_one_statement_each(
    postgres_url: str, statements: list[str]
) -> None:
    async with open_store(postgres_url) as store:
        tasks = [a_task() for _ in range(6)]
        await create(store, *tasks)
        counts = []
        for task in [*tasks, *tasks]:
            statements.clear()
            assert await store.get_json(task.id) == (1, to_json(task))
            counts.append(len(statements))
    assert counts == [2, *[1] * 11]
    assert statements == [task_json.KEY_OF_ONE]


async def test_a_task_is_read_with_its_version_up_to_the_highest(postgres_url: str) -> None:
    async with open_store(postgres_url) as store, connected(postgres_url) as db:
        task = a_task()
        await create(store, task)
        await db.execute("UPDATE tasks SET version = $1", 2**31 - 1)
        assert await store.get_json(task.id) == (2**31 - 1, to_json(task.model_copy(update={"version": 2**31 - 1})))


async def test_the_cache_is_bounded_and_evicts_the_oldest_entries_first(
    postgres_url: str, statements: list[str]
) -> None:
    async with open_store(postgres_url) as store, connected(postgres_url) as db:
        tasks = [a_task(title=f"{n:02}") for n in range(20)]
        await create(store, *tasks)
        (size,) = {len(content) for _, content in await store.page_json(LIST, size=20)}
        cache = TaskJsonCache(max_bytes=5 * (size + OVERHEAD_BYTES))
        page = await cache.page(db, LIST, 20)
        assert [Task.model_validate_json(content) for _, content in page] == tasks
        assert (len(cache), cache.size_bytes) == (5, 5 * (size + OVERHEAD_BYTES))
        statements.clear()
        await cache.by_ids(db, [task.id for task in tasks[-5:]])
        assert statements == [task_json.KEYS_OF_MANY]
        assert await cache.page(db, LIST, 20) == page


@pytest.mark.parametrize("max_bytes", [0, 3000, task_json.MAX_CACHE_BYTES])
async def test_concurrent_readers_and_writers_see_consistent_pages(
    postgres_url: str, max_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every page is sorted and complete, and the last one is equal to that of the memory store."""
    chance = random.Random(7)
    monkeypatch.setattr(postgres, "MAX_CACHE_BYTES", max_bytes)
    async with open_store(postgres_url) as store, open_store(postgres_url) as pod:
        model = MemoryStore()
        tasks = {task.id: task for task in (a_task(title=f"{n:03}") for n in range(30))}
        for of in (store, model):
            await of.commit([Write(task, "created") for task in tasks.values()], now=NOW)
        is_over = False

        async def write() -> None:
            nonlocal is_over
            try:
                for _ in range(60):
                    task = chance.choice(list(tasks.values()))
                    changed = task.model_copy(update={"title": f"{chance.random():.9f}", "version": task.version + 1})
                    for of in (pod, model):
                        await of.commit([Write(changed, "updated")], now=NOW)
                    tasks[task.id] = changed
            finally:
                is_over = True

        async def read() -> None:
            while not is_over:
                page = [Task.model_validate_json(content) for _, content in await store.page_json(LIST, size=20)]
                assert [task.title for task in page] == sorted(task.title for task in page)
                assert len({task.id for task in page}) == 20

        await asyncio.gather(write(), *(read() for _ in range(4)))
        expected = [content for _, content in await model.page_json(LIST, size=20)]
        assert [content for _, content in await store.page_json(LIST, size=20)] == expected


def test_etag_of_a_list_differs_if_a_release_writes_the_same_tasks_differently() -> None:
    assert list_etag([(b"stamp", b"1")], b"[1]") != list_etag([(b"stamp", b"2")], b"[2]")
