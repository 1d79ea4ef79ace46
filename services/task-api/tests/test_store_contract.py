"""The contract of every store. Memory is the model; SQLite and PostgreSQL must behave identically."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from making import NOW, a_task
from uuid_utils.compat import uuid7

from task_api import store
from task_api.store import (
    ChangesPurged,
    IdempotencyRecord,
    InvalidFeedCursor,
    Names,
    OtherHistory,
    Store,
    VersionConflict,
    Write,
)
from task_api.store.memory import MemoryStore
from task_api.tasks.models import Priority, Status, Task
from task_api.tasks.query import Filters, NameKind, Query, read_cursor, read_order, words, write_cursor

DAY = timedelta(days=1)


def following(task: Task, **differences: object) -> Task:
    return task.model_copy(update={"version": task.version + 1, **differences})


async def keep(tasks_store: Store, *tasks: Task) -> None:
    await tasks_store.commit([Write(task, "created" if task.version == 1 else "updated") for task in tasks], now=NOW)


def a_record(
    *, subject: str = "ann", key: str = "key-1", fingerprint: str = "fingerprint", body: str = '{"a": "ü"}'
) -> IdempotencyRecord:
    return IdempotencyRecord(subject, key, fingerprint, 201, body)


EVERYTHING = a_task(
    title="Grüße, 世界 👋 '; DROP TABLE tasks; --",
    description="two\nlines\tand a \\ backslash",
    status=Status.DONE,
    priority=Priority.URGENT,
    due_on=date(2026, 12, 24),
    start_at=NOW - DAY,
    labels=["home", "a,b", 'with "quotes"', "ü"],
    project="garden",
    parent=UUID("01a209b3-fcfd-7015-92d5-ecad43015460"),
    assignee="ann@example.org",
    percent_done=100,
    recurrence="FREQ=DAILY",
    time_zone="Europe/Berlin",
    followed_by=UUID("01a209b3-fcfd-7015-92d5-ecad43015461"),
    position=-0.1,
    metadata={"b": "2", "a": "ü \\ '"},
    completed_at=NOW + timedelta(microseconds=1),
)


@pytest.mark.parametrize(
    "task",
    [
        a_task(),
        EVERYTHING,
        a_task(due_at=datetime(2, 1, 1, tzinfo=UTC)),
        a_task(parent=EVERYTHING.parent, followed_by=EVERYTHING.followed_by),
        a_task(project="garden", assignee="ann", time_zone="Europe/Berlin"),
    ],
)
async def test_a_task_round_trips(tasks_store: Store, task: Task) -> None:
    await keep(tasks_store, task)
    assert await tasks_store.get(task.id) == task
    changed = following(EVERYTHING, id=task.id, due_on=None, due_at=NOW, title="new")
    await keep(tasks_store, changed)
    assert await tasks_store.get(task.id) == changed


@pytest.mark.parametrize("task", [a_task(), EVERYTHING])
async def test_a_task_is_read_as_json_until_it_is_deleted(tasks_store: Store, task: Task) -> None:
    for version in (task, following(task, title="new")):
        await keep(tasks_store, version)
        found = await tasks_store.get_json(task.id)
        assert found is not None
        assert (found[0], Task.model_validate_json(found[1])) == (version.version, version)
    assert await tasks_store.get_json(uuid7()) is None
    await keep(tasks_store, following(following(task), deleted_at=NOW))
    assert await tasks_store.get_json(task.id) is None


async def test_an_unknown_id_returns_none(tasks_store: Store) -> None:
    task = a_task()
    await keep(tasks_store, task)
    assert await tasks_store.get(uuid7()) is None
    assert await tasks_store.get_many([uuid7(), task.id]) == {task.id: task}
    assert await tasks_store.get_many([]) == {}


@pytest.mark.parametrize("version", [1, 2, 4])
async def test_a_wrong_version_is_a_conflict_and_changes_nothing(tasks_store: Store, version: int) -> None:
    task, other = a_task(), a_task()
    await keep(tasks_store, task)
    await keep(tasks_store, following(task))
    before = await tasks_store.changes(None, size=10)
    with pytest.raises(VersionConflict):
        await keep(tasks_store, other, task.model_copy(update={"version": version, "title": "late"}))
    assert await tasks_store.get(task.id) == following(task)
    assert await tasks_store.get(other.id) is None
    assert await tasks_store.changes(None, size=10) == before


async def test_updating_a_missing_task_is_a_conflict(tasks_store: Store) -> None:
    with pytest.raises(VersionConflict):
        await keep(tasks_store, a_task(version=2))
    assert await tasks_store.count() == 0


async def test_exactly_one_of_many_updates_to_a_version_wins(tasks_store: Store) -> None:
    task = a_task()
    await keep(tasks_store, task)
    changes = [following(task, title=str(n)) for n in range(10)]
    results = await asyncio.gather(*(keep(tasks_store, change) for change in changes), return_exceptions=True)
    assert [type(result) for result in results].count(VersionConflict) == 9
    assert await tasks_store.get(task.id) == changes[results.index(None)]


async def test_one_commit_may_update_a_task_twice(tasks_store: Store) -> None:
    task = a_task()
    await keep(tasks_store, task, following(task), following(following(task), title="twice"))
    assert await tasks_store.get(task.id) == following(following(task), title="twice")


async def test_the_count_excludes_deleted_tasks(tasks_store: Store) -> None:
    assert await tasks_store.count() == 0
    tasks = [a_task() for _ in range(3)]
    await keep(tasks_store, *tasks)
    await keep(tasks_store, following(tasks[0], deleted_at=NOW))
    assert await tasks_store.count() == 2


# --- lists ----------------------------------------------------------------------------

LISTED = [
    a_task(title="a", priority=Priority.HIGH, due_at=NOW, labels=["x", "y"], project="p", position=2.0),
    a_task(
        title="B", priority=Priority.LOW, due_on=date(2026, 11, 23), labels=["x"], status=Status.DONE, completed_at=NOW
    ),
    a_task(title="ä", priority=Priority.HIGH, assignee="ann", description="Straße", updated_at=NOW + DAY, start_at=NOW),
    a_task(title="b", due_at=NOW + DAY, project="p", deleted_at=NOW),
    a_task(title="a", due_at=NOW + DAY, parent=EVERYTHING.id, labels=["X"], project="P", position=-1.5),
    a_task(title="STRASSE, a b", status=Status.CANCELLED, priority=Priority.URGENT, updated_at=NOW - DAY),
]

FILTERS = [
    Filters(),
    Filters(status=frozenset({Status.DONE})),
    Filters(status=frozenset({Status.DONE, Status.CANCELLED})),
    Filters(priority=frozenset({Priority.HIGH, Priority.NONE})),
    Filters(label=frozenset({"x"})),
    Filters(label=frozenset({"x", "y"})),
    Filters(project="p"),
    Filters(parent=EVERYTHING.id),
    Filters(assignee="ann"),
    Filters(due_before=NOW),
    Filters(due_before=NOW + timedelta(microseconds=1)),
    Filters(due_after=NOW),
    Filters(due_after=datetime(2026, 11, 23, tzinfo=UTC), due_before=datetime(2026, 11, 24, tzinfo=UTC)),
    Filters(updated_since=NOW),
    Filters(deleted=True),
    Filters(words=words("strasse")),
    Filters(words=words("A b")),
    Filters(words=words("a AND NOT b")),
    Filters(words=words("' \" & | ! :* ( )")),
    Filters(status=frozenset({Status.TO_DO}), priority=frozenset({Priority.HIGH}), project="p"),
    Filters(without=frozenset({"project"})),
    Filters(without=frozenset({"project", "parent", "assignee"})),
    Filters(without=frozenset({"project"}), project="p"),
    Filters(created_before=NOW),
    Filters(created_before=NOW + timedelta(microseconds=1)),
    Filters(created_after=NOW),
    Filters(created_after=NOW + timedelta(microseconds=1)),
    Filters(completed_before=NOW),
    Filters(completed_before=NOW + timedelta(microseconds=1)),
    Filters(completed_after=NOW),
    Filters(completed_after=NOW + timedelta(microseconds=1)),
    Filters(completed_after=NOW, completed_before=NOW + DAY, status=frozenset({Status.DONE})),
    Filters(prefixes=words("stra")),
    Filters(prefixes=words("a STRA")),
    Filters(prefixes=words("tr")),
    Filters(prefixes=words('a:* | !b & * ( "')),
    Filters(prefixes=words("* '")),
]


@pytest.mark.parametrize("filters", FILTERS, ids=range(len(FILTERS)))
async def test_a_list_matches_its_filters(tasks_store: Store, filters: Filters) -> None:
    await keep(tasks_store, *LISTED)
    found = await tasks_store.page(Query(filters), size=10)
    assert found == [task for task in reversed(LISTED) if filters.match(task)]
    assert await tasks_store.count_found(filters, limit=10) == len(found)
    assert await tasks_store.count_found(filters, limit=2) == min(2, len(found))
    by_completion = await tasks_store.page(Query(filters, read_order("-completed_at")), size=10)
    assert {task.id for task in by_completion} == {task.id for task in found}


SORTS = ["-created_at", "created_at", "due", "-due", "priority,due", "-priority,due", "title", "-title,created_at"]
SORTS += ["-position,title", "updated_at", "-updated_at", "start_at,-completed_at", "completed_at,-priority,title"]


@pytest.mark.parametrize("sort", SORTS)
async def test_pages_partition_the_list(tasks_store: Store, sort: str) -> None:
    model = store.from_url("memory://")
    await keep(model, *LISTED)
    await keep(tasks_store, *LISTED)
    query = Query(Filters(), read_order(sort))
    whole = await model.page(query, size=100)
    assert len(whole) == 5
    assert await tasks_store.page(query, size=100) == whole
    pages, last = [], None
    while last is None or len(pages) < 5:
        if last is not None:
            query = replace(query, after=read_cursor(query, write_cursor(query, last)))
        (last,) = await tasks_store.page(query, size=1)
        pages.append(last)
    assert pages == whole
    assert await tasks_store.page(replace(query, after=read_cursor(query, write_cursor(query, last))), size=1) == []


async def test_a_page_as_json_has_the_same_tasks(tasks_store: Store) -> None:
    await keep(tasks_store, *LISTED)
    page = await tasks_store.page_json(Query(), size=3)
    assert [Task.model_validate_json(content) for _, content in page] == await tasks_store.page(Query(), size=3)
    assert len({stamp for stamp, _ in page}) == 3


async def test_names_are_counted_among_the_newest_tasks(tasks_store: Store) -> None:
    assert await tasks_store.names("label", scan=3, limit=3) == Names((), whole=True)
    await keep(tasks_store, *LISTED)
    whole: dict[NameKind, tuple[tuple[str, int], ...]] = {
        "label": (("x", 2), ("X", 1), ("y", 1)),
        "project": (("P", 1), ("p", 1)),  # the deleted one of `p` is excluded
        "assignee": (("ann", 1),),
    }
    for kind, counts in whole.items():
        assert await tasks_store.names(kind, scan=6, limit=3) == Names(counts, whole=True)
    assert await tasks_store.names("label", scan=6, limit=2) == Names(whole["label"][:2], whole=False)
    # The third newest is the deleted one: scanned, and not counted.
    assert await tasks_store.names("project", scan=3, limit=3) == Names((("P", 1),), whole=False)
    assert await tasks_store.names("label", scan=1, limit=3) == Names((), whole=False)
    assert await tasks_store.names("label", scan=5, limit=3) == Names((("X", 1), ("x", 1)), whole=False)


async def test_search_reflects_an_update(tasks_store: Store) -> None:
    task = a_task(title="old words")
    await keep(tasks_store, task)
    await keep(tasks_store, following(task, title="new words"))
    assert await tasks_store.page(Query(Filters(words=words("old"))), size=10) == []
    assert len(await tasks_store.page(Query(Filters(words=words("new"))), size=10)) == 1


# --- idempotency ----------------------------------------------------------------------


async def test_an_idempotency_record_is_stored_with_its_writes_and_returned(tasks_store: Store) -> None:
    task, other = a_task(), a_task()
    assert await tasks_store.commit([Write(task, "created")], a_record(), now=NOW) is None
    repeated = a_record(fingerprint="another", body="{}")
    assert await tasks_store.commit([Write(other, "created")], repeated, now=NOW) == a_record()
    assert await tasks_store.get(task.id) == task
    assert await tasks_store.get(other.id) is None


@pytest.mark.parametrize("other", [{"key": "key-2"}, {"subject": "bob"}])
async def test_records_are_per_key_and_subject(tasks_store: Store, other: dict[str, str]) -> None:
    assert await tasks_store.commit([], a_record(), now=NOW) is None
    assert await tasks_store.commit([], a_record(**other), now=NOW) is None


async def test_a_key_expires_after_24_hours(tasks_store: Store) -> None:
    assert await tasks_store.commit([], a_record(), now=NOW) is None
    assert await tasks_store.commit([], a_record(), now=NOW + DAY - timedelta(seconds=1)) == a_record()
    assert await tasks_store.commit([], a_record(body="{}"), now=NOW + DAY) is None
    assert await tasks_store.commit([], a_record(), now=NOW + DAY) == a_record(body="{}")


async def test_a_record_is_found_by_its_key_for_24_hours(tasks_store: Store) -> None:
    assert await tasks_store.get_record("ann", "key-1", now=NOW) is None
    await tasks_store.commit([], a_record(), now=NOW)
    assert await tasks_store.get_record("ann", "key-1", now=NOW + DAY - timedelta(seconds=1)) == a_record()
    assert await tasks_store.get_record("ann", "key-1", now=NOW + DAY) is None
    assert await tasks_store.get_record("ann", "key-2", now=NOW) is None
    assert await tasks_store.get_record("bob", "key-1", now=NOW) is None


async def test_a_conflicting_commit_stores_no_record(tasks_store: Store) -> None:
    with pytest.raises(VersionConflict):
        await tasks_store.commit([Write(a_task(version=2), "updated")], a_record(), now=NOW)
    assert await tasks_store.commit([], a_record(), now=NOW) is None


async def test_creating_an_existing_task_with_a_key_is_a_conflict_and_stores_no_record(tasks_store: Store) -> None:
    task = a_task()
    await keep(tasks_store, task)
    with pytest.raises(VersionConflict):
        await tasks_store.commit([Write(task, "created")], a_record(), now=NOW)
    assert await tasks_store.get_record("ann", "key-1", now=NOW) is None


async def test_exactly_one_of_many_commits_with_a_key_writes(tasks_store: Store) -> None:
    tasks = [a_task() for _ in range(8)]
    results = await asyncio.gather(
        *(tasks_store.commit([Write(t, "created")], a_record(body=f'"{t.id}"'), now=NOW) for t in tasks)
    )
    assert results.count(None) == 1
    (written,) = await tasks_store.page(Query(), size=10)
    assert {result.body for result in results if result} == {f'"{written.id}"'}


# --- changes --------------------------------------------------------------------------


async def test_the_feed_has_every_change_in_commit_order(tasks_store: Store) -> None:
    task, other = a_task(), EVERYTHING.model_copy(update={"id": uuid7()})
    start = await tasks_store.last_cursor()
    await keep(tasks_store, task)
    await keep(tasks_store, other, following(task))
    await tasks_store.commit([Write(following(following(task), deleted_at=NOW), "deleted")], now=NOW)
    changes = await tasks_store.changes(None, size=10)
    assert [(c.type, c.task) for c in changes] == [
        ("created", task),
        ("created", other),
        ("updated", following(task)),
        ("deleted", following(following(task), deleted_at=NOW)),
    ]
    assert await tasks_store.changes(start, size=10) == changes
    assert await tasks_store.changes(changes[0].cursor, size=2) == changes[1:3]
    assert await tasks_store.changes(changes[-1].cursor, size=2) == []
    assert await tasks_store.last_cursor() == changes[-1].cursor


TOO_LONG = "9" * 19


@pytest.mark.parametrize(
    "position", ["", "x", "-1", "1.2.3", TOO_LONG, f"{TOO_LONG}.1", f"1.{TOO_LONG}", "1.", ".1", "²", "1;2"]
)
async def test_an_invalid_cursor_is_rejected(tasks_store: Store, position: str) -> None:
    with pytest.raises(InvalidFeedCursor):
        await tasks_store.changes(position, size=1)


async def test_a_cursor_without_a_change_is_an_error(tasks_store: Store) -> None:
    await keep(tasks_store, a_task())
    for _ in range(2):
        last = await tasks_store.last_cursor()
        with pytest.raises(OtherHistory):
            await tasks_store.changes(last[:-1] + str((int(last[-1]) + 1) % 10), size=1)
        await keep(tasks_store, a_task())


async def test_a_cursor_of_an_earlier_process_is_of_another_history_in_memory() -> None:
    with pytest.raises(OtherHistory):
        await MemoryStore().changes("0", size=1)


@pytest.mark.parametrize("storage_url", ["memory", "sqlite"], indirect=True)
async def test_with_one_writer_at_a_time_the_feed_does_not_lag(tasks_store: Store) -> None:
    await keep(tasks_store, a_task())
    assert await tasks_store.feed_lag() == 0


# --- purge ----------------------------------------------------------------------------


async def test_the_purge_removes_exactly_the_expired_data(tasks_store: Store) -> None:
    long_gone, gone, current = a_task(), a_task(), a_task()
    await keep(tasks_store, long_gone, gone, current)
    start = (await tasks_store.changes(None, size=1))[0].cursor
    await keep(tasks_store, following(long_gone, deleted_at=NOW - DAY, updated_at=NOW - DAY))
    await keep(tasks_store, following(gone, deleted_at=NOW + DAY, updated_at=NOW + DAY))
    await tasks_store.commit([], a_record(), now=NOW)

    assert await tasks_store.purge(deleted_before=NOW + timedelta(seconds=1), records_before=NOW) == 1
    assert await tasks_store.get(long_gone.id) is None
    assert await tasks_store.get(gone.id) is not None
    assert await tasks_store.get(current.id) == current
    left = await tasks_store.changes(None, size=10)
    assert [change.task.id for change in left] == [gone.id]
    with pytest.raises(ChangesPurged):
        await tasks_store.changes(start, size=10)
    assert await tasks_store.commit([], a_record(), now=NOW) == a_record()

    await tasks_store.purge(deleted_before=NOW + 2 * DAY, records_before=NOW + DAY)
    assert await tasks_store.changes(None, size=10) == []
    assert await tasks_store.changes(left[-1].cursor, size=10) == []
    assert await tasks_store.last_cursor() == left[-1].cursor
    assert await tasks_store.commit([], a_record(), now=NOW) is None


async def test_a_kept_change_keeps_all_later_entries_in_the_feed(tasks_store: Store) -> None:
    """Clocks of pods differ. Otherwise a reader would miss changes without an error."""
    begin = await tasks_store.last_cursor()
    ahead, behind = a_task(updated_at=NOW + DAY), a_task()
    await keep(tasks_store, ahead, behind)
    await tasks_store.purge(deleted_before=NOW + timedelta(hours=1), records_before=NOW)
    assert [change.task for change in await tasks_store.changes(begin, size=10)] == [ahead, behind]


async def test_the_purge_limit_is_exclusive(tasks_store: Store) -> None:
    task = a_task()
    await keep(tasks_store, task)
    await tasks_store.commit([Write(following(task, deleted_at=NOW), "deleted")], a_record(), now=NOW)
    assert await tasks_store.purge(deleted_before=NOW, records_before=NOW) == 0
    assert await tasks_store.get(task.id) is not None
    assert [change.type for change in await tasks_store.changes(None, size=10)] == ["created", "deleted"]
    assert await tasks_store.get_record("ann", "key-1", now=NOW) == a_record()


# --- opening and closing --------------------------------------------------------------


# In memory it is lost, as `/health` says, and each process has its own: the chart rejects it with several replicas.
KEPT = pytest.mark.parametrize("storage_url", ["sqlite", "postgresql"], indirect=True)


@KEPT
async def test_writes_survive_reopening_the_storage(storage_url: str) -> None:
    task = a_task()
    first, second = store.from_url(storage_url), store.from_url(storage_url)
    await first.open()
    await keep(first, task)
    await first.close()
    await second.open()
    assert await second.get(task.id) == task
    await second.close()


@KEPT
async def test_two_processes_see_each_others_writes(tasks_store: Store, storage_url: str) -> None:
    other = store.from_url(storage_url)
    await other.open()
    task = a_task()
    await keep(tasks_store, task)
    assert await other.get(task.id) == task
    await other.close()


async def test_concurrent_opens_of_a_new_storage_all_succeed(storage_url: str) -> None:
    stores = [store.from_url(storage_url) for _ in range(5)]
    await asyncio.gather(*(s.open() for s in stores))
    assert await asyncio.gather(*(s.count() for s in stores)) == [0] * 5
    await asyncio.gather(*(s.close() for s in stores))


async def test_closing_twice_or_before_opening_is_harmless(storage_url: str) -> None:
    unopened = store.from_url(storage_url)
    await unopened.close()
    await unopened.close()
