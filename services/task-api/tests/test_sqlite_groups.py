"""Group commit: writes that wait for the SQLite file share one COMMIT, and do not affect each other."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import resource
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from making import NOW, a_task
from prometheus_client import REGISTRY
from pydantic import SecretStr
from starlette.types import Message, Scope

from chassis.storage import StoreBusy, StoreUnavailable
from task_api.app import create_app
from task_api.settings import Settings
from task_api.store import IdempotencyRecord, VersionConflict, Write
from task_api.store import sqlite as under_test
from task_api.store.sqlite import GROUP_SIZE, SQLiteStore
from task_api.tasks.models import Task

DEADLINE_SECONDS = 30
QUEUE_SIZE = 2 * GROUP_SIZE


class Watched(sqlite3.Connection):
    """Records the statements, and calls `before_commit` before each COMMIT."""

    statements: list[str]
    before_commit: Callable[[], object]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.set_trace_callback(self.statements.append)

    def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
        if statement == "COMMIT":
            type(self).before_commit()
        return super().execute(statement, *arguments)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Watched]]:
    """The statements of a store that is opened in the test."""
    Watched.statements, Watched.before_commit = [], lambda: None
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Watched))
        yield Watched


@pytest.fixture
async def tasks_store(tmp_path: Path, watched: type[Watched]) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "tasks.db", queue_size=QUEUE_SIZE)
    await store.open()
    watched.statements.clear()
    yield store
    await store.close()


def commits() -> int:
    return Watched.statements.count("COMMIT")


def create(
    store: SQLiteStore, task: Task, record: IdempotencyRecord | None = None
) -> asyncio.Task[IdempotencyRecord | None]:
    return asyncio.create_task(store.commit([Write(task, "created")], record, now=NOW))


def update(store: SQLiteStore, task: Task, **differences: object) -> asyncio.Task[IdempotencyRecord | None]:
    changed = task.model_copy(update={"version": task.version + 1, **differences})
    return asyncio.create_task(store.commit([Write(changed, "updated")], now=NOW))


@contextlib.contextmanager
def another_process(store: SQLiteStore) -> Iterator[sqlite3.Connection]:
    # sqlite3.connect is the watched one here.
    other = sqlite3.Connection(store.path, isolation_level=None)
    with contextlib.closing(other):
        yield other


@contextlib.asynccontextmanager
async def held_up(store: SQLiteStore) -> AsyncIterator[Task]:
    """Writes in the block queue behind a task that waits for another process: until the end of the block."""
    first = a_task(title="first")
    with another_process(store) as other:
        other.execute("BEGIN IMMEDIATE")
        Watched.statements.clear()
        creating = create(store, first)
        await eventually(lambda: "BEGIN IMMEDIATE" in Watched.statements)
        yield first
        await asyncio.sleep(0)  # by then every write started in the block is queued
        other.execute("COMMIT")
        await creating


def refuse(store: SQLiteStore, title: str, *, by: str) -> None:
    """Makes SQLite reject a task of that title: ABORT rolls back the statement, ROLLBACK the whole transaction."""
    with another_process(store) as other:
        rule = f"CREATE TRIGGER refuse BEFORE INSERT ON tasks WHEN new.title = '{title}'"
        other.execute(f"{rule} BEGIN SELECT raise({by}, 'refused'); END")


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not true():
            await asyncio.sleep(0.01)


async def results(*waiting: Awaitable[IdempotencyRecord | None]) -> list[IdempotencyRecord | BaseException | None]:
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await asyncio.gather(*waiting, return_exceptions=True)


async def fed(store: SQLiteStore) -> list[str]:
    """The titles in the change feed, in feed order."""
    return [change.task.title for change in await store.changes(None, size=1000)]


async def test_waiting_writes_share_one_commit_in_fifo_order(tasks_store: SQLiteStore) -> None:
    async with held_up(tasks_store):
        waiting = [create(tasks_store, a_task(title=str(number))) for number in range(20)]
    assert await results(*waiting) == [None] * 20
    assert commits() == 2
    assert await fed(tasks_store) == ["first", *map(str, range(20))]


async def test_a_write_of_at_most_one_task_uses_no_savepoint(tasks_store: SQLiteStore) -> None:
    """It costs as much as the write. Nor does a transaction of its own need one."""
    record = IdempotencyRecord("ann", "key", "fingerprint", 200, "{}")
    there = a_task()
    await tasks_store.commit([Write(there, "created"), Write(a_task(), "created")], now=NOW)
    assert [statement for statement in Watched.statements if "SAVEPOINT" in statement] == []
    async with held_up(tasks_store):
        waiting = [create(tasks_store, task) for task in (a_task(), there, a_task())]
        waiting.append(asyncio.create_task(tasks_store.commit([], record, now=NOW)))
    assert [type(result) for result in await results(*waiting)] == [type(None), VersionConflict, type(None), type(None)]
    assert [statement for statement in Watched.statements if "SAVEPOINT" in statement] == []


async def test_no_write_is_acknowledged_before_the_commit(tasks_store: SQLiteStore, watched: type[Watched]) -> None:
    loop = asyncio.get_running_loop()
    told_before: list[bool] = []

    def look() -> None:
        """In the store's thread: after two turns the loop has delivered everything scheduled until now."""
        for turn in range(2):
            turned = threading.Event()
            loop.call_soon_threadsafe(turned.set)
            assert turned.wait(DEADLINE_SECONDS), turn
        told_before.extend(one.done() for one in waiting)

    async with held_up(tasks_store):
        waiting = [create(tasks_store, a_task()) for _ in range(5)]
        await asyncio.sleep(0)
        watched.before_commit = look
    assert await results(*waiting) == [None] * 5
    assert told_before == [False] * 10  # before the COMMIT of the first one, and before theirs


async def test_a_failed_write_is_rolled_back_alone_with_its_own_error(tasks_store: SQLiteStore) -> None:
    there = a_task(title="there")
    await create(tasks_store, there)
    refuse(tasks_store, "wrong", by="ABORT")
    keys = [IdempotencyRecord("ann", key, "fingerprint", 201, "{}") for key in "abc"]
    rolled_back = [a_task(title="not kept, as the second write fails") for _ in range(2)]

    def begin(record: IdempotencyRecord, *tasks: Task) -> asyncio.Task[IdempotencyRecord | None]:
        return asyncio.create_task(tasks_store.commit([Write(task, "created") for task in tasks], record, now=NOW))

    async with held_up(tasks_store):
        waiting = [
            create(tasks_store, a_task(title="before")),
            begin(keys[0], rolled_back[0], there),
            create(tasks_store, a_task(title="between")),
            begin(keys[1], rolled_back[1], a_task(title="wrong")),
            begin(keys[2], there),
            create(tasks_store, a_task(title="after")),
        ]
    before, conflict, between, rejected, conflict_of_one, after = await results(*waiting)
    assert (before, between, after) == (None, None, None)
    assert isinstance(conflict, VersionConflict)
    assert isinstance(rejected, sqlite3.IntegrityError)
    assert isinstance(conflict_of_one, VersionConflict)
    assert commits() == 2
    assert await fed(tasks_store) == ["there", "first", "before", "between", "after"]
    assert await tasks_store.get_many([task.id for task in rolled_back]) == {}
    assert [await tasks_store.get_record("ann", key, now=NOW) for key in "abc"] == [None] * 3


@pytest.mark.parametrize(
    ("by", "differences", "expected"),
    [
        ("ABORT", {}, sqlite3.IntegrityError),
        # As SQLite may do on a full disk: a SAVEPOINT would then begin a transaction, and its RELEASE commit it.
        ("ROLLBACK", {}, sqlite3.IntegrityError),
        ("ABORT", {"priority": None}, AttributeError),
    ],
    ids=["statement-undone", "transaction-undone", "defect"],
)
@pytest.mark.parametrize("several", [False, True], ids=["one-task", "several"])
async def test_an_unexpected_error_fails_only_its_own_write(
    by: str, differences: dict[str, object], expected: type[Exception], several: bool, tasks_store: SQLiteStore
) -> None:
    refuse(tasks_store, "wrong", by=by)
    wrong = [a_task(title="beside it")] * several + [a_task(title="wrong", **differences)]
    async with held_up(tasks_store):
        waiting = [
            create(tasks_store, a_task(title="before")),
            asyncio.create_task(tasks_store.commit([Write(task, "created") for task in wrong], now=NOW)),
            create(tasks_store, a_task(title="after")),
        ]
    before, error, after = await results(*waiting)
    assert (before, after) == (None, None)
    assert isinstance(error, expected)
    assert await fed(tasks_store) == ["first", "before", "after"]


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "of-two"])
async def test_a_failed_write_is_retried_only_if_it_was_in_a_group(others: int, tasks_store: SQLiteStore) -> None:
    refuse(tasks_store, "wrong", by="ABORT")
    async with held_up(tasks_store):
        waiting = [create(tasks_store, a_task(title=title)) for title in ["right"] * others + ["wrong"]]
    *right, wrong = await results(*waiting)
    assert right == [None] * others
    assert isinstance(wrong, sqlite3.IntegrityError)
    assert Watched.statements.count("BEGIN IMMEDIATE") == 1 + (3 if others else 1)  # the first, a group and each alone


async def test_the_first_of_two_updates_to_a_task_wins(tasks_store: SQLiteStore) -> None:
    task = a_task()
    await create(tasks_store, task)
    async with held_up(tasks_store):
        waiting = [update(tasks_store, task, title="one"), update(tasks_store, task, title="two")]
    one, two = await results(*waiting)
    assert one is None
    assert isinstance(two, VersionConflict)
    assert (await tasks_store.get_many([task.id]))[task.id].title == "one"


async def test_the_first_of_two_requests_with_a_key_in_a_group_wins(tasks_store: SQLiteStore) -> None:
    first, second = (IdempotencyRecord("ann", "key", "fingerprint", 201, body) for body in ('"1"', '"2"'))
    task = a_task()
    async with held_up(tasks_store):
        waiting = [create(tasks_store, a_task(), first), create(tasks_store, task, second)]
    assert await results(*waiting) == [None, first]
    assert commits() == 2
    assert await tasks_store.get(task.id) is None
    assert await tasks_store.get_record("ann", "key", now=NOW) == first


async def test_a_write_cancelled_in_the_queue_is_skipped(tasks_store: SQLiteStore) -> None:
    async with held_up(tasks_store):
        # The one that begins the group, one in its middle, and one past its deadline.
        waiting = [create(tasks_store, a_task(title=str(number))) for number in range(4)]
        late = asyncio.create_task(asyncio.wait_for(create(tasks_store, a_task(title="late")), 0.01))
        await asyncio.wait([late])
        waiting[0].cancel()
        waiting[2].cancel()
    assert [type(result) for result in await results(*waiting, late)] == [
        asyncio.CancelledError,
        type(None),
        asyncio.CancelledError,
        type(None),
        TimeoutError,
    ]
    assert await fed(tasks_store) == ["first", "1", "3"]


async def test_a_write_cancelled_during_the_commit_does_not_hold_up_its_group(tasks_store: SQLiteStore) -> None:
    loop = asyncio.get_running_loop()

    def cancel_the_first() -> None:
        """In the store's thread: returns when the event loop has cancelled it."""
        done = threading.Event()

        def cancel() -> None:
            waiting[0].cancel()
            loop.call_soon(done.set)

        loop.call_soon_threadsafe(cancel)
        assert done.wait(DEADLINE_SECONDS)

    async with held_up(tasks_store):
        waiting = [create(tasks_store, a_task(title=title)) for title in "abc"]
        await asyncio.sleep(0)
        Watched.before_commit = lambda: cancel_the_first() if commits() == 1 else None
    outcomes = await results(*waiting)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, type(None), type(None)]
    assert await fed(tasks_store) == ["first", *"abc"]


async def test_a_fully_cancelled_group_writes_nothing(tasks_store: SQLiteStore) -> None:
    async with held_up(tasks_store):
        waiting = [create(tasks_store, a_task()) for _ in range(2)]
        await asyncio.sleep(0)
        for one in waiting:
            one.cancel()
    await results(*waiting)
    assert await fed(tasks_store) == ["first"]
    assert Watched.statements.count("BEGIN IMMEDIATE") == 1


@pytest.mark.parametrize(("singles", "expected"), [(GROUP_SIZE, 3), (GROUP_SIZE + 1, 4)], ids=["full", "over"])
async def test_the_group_size_is_bounded_by_tasks(tasks_store: SQLiteStore, singles: int, expected: int) -> None:
    async with held_up(tasks_store):
        waiting = [create(tasks_store, a_task()) for _ in range(singles)]
        batch = [Write(a_task(), "created") for _ in range(GROUP_SIZE)]
        waiting.append(asyncio.create_task(tasks_store.commit(batch, now=NOW)))
    assert await results(*waiting) == [None] * len(waiting)
    assert commits() == expected  # the first one, 64, perhaps one, and the batch, which did not fit


async def test_writes_beyond_the_queue_size_are_rejected_and_counted(tasks_store: SQLiteStore) -> None:
    for _ in range(3):
        await tasks_store.ping()  # earlier requests leave the queue as long as it was
    counter = "task_api_db_rejected_total"
    before = REGISTRY.get_sample_value(counter) or 0
    async with held_up(tasks_store):
        waiting = [create(tasks_store, a_task()) for _ in range(QUEUE_SIZE + 1)]
    rejected = [result for result in await results(*waiting) if result is not None]
    assert [type(error) for error in rejected] == [StoreBusy]
    assert REGISTRY.get_sample_value(counter) == before + 1
    assert len(await fed(tasks_store)) == 1 + QUEUE_SIZE


async def test_a_group_waits_once_for_another_process(
    tasks_store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tasks_store.close()
    monkeypatch.setattr(under_test, "BUSY_SECONDS", 0.2)
    await tasks_store.open()
    with another_process(tasks_store) as other:
        other.execute("BEGIN IMMEDIATE")
        Watched.statements.clear()
        waiting = [create(tasks_store, a_task())]
        await eventually(lambda: "BEGIN IMMEDIATE" in Watched.statements)
        waiting += [create(tasks_store, a_task()) for _ in range(10)]
        errors = await results(*waiting)
        other.execute("COMMIT")
    assert {type(error) for error in errors} == {StoreUnavailable}
    assert {str(error) for error in errors} == {
        f"The SQLite file {tasks_store.path} cannot be used: database is locked"
    }
    assert Watched.statements.count("BEGIN IMMEDIATE") == 2
    assert await fed(tasks_store) == []
    await create(tasks_store, a_task(title="then"))
    assert await fed(tasks_store) == ["then"]


@contextlib.contextmanager
def full_after(bytes_more: int, file: Path) -> Iterator[None]:
    """A disk with this much space left after the end of the file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + bytes_more, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_a_failed_group_commit_acknowledges_nothing(tasks_store: SQLiteStore) -> None:
    log = tasks_store.path.with_name("tasks.db-wal")
    key = IdempotencyRecord("ann", "key", "fingerprint", 201, "{}")
    async with held_up(tasks_store):
        waiting = [create(tasks_store, a_task(), key if number == 1 else None) for number in range(3)]
        full = contextlib.ExitStack()
        Watched.before_commit = lambda: full.enter_context(full_after(0, log)) if commits() == 1 else None
    with full:
        errors = await results(*waiting)
    assert {type(error) for error in errors} == {StoreUnavailable}
    assert {str(error) for error in errors} == {f"The SQLite file {tasks_store.path} cannot be used: disk I/O error"}
    assert await fed(tasks_store) == ["first"]
    assert await tasks_store.get_record("ann", "key", now=NOW) is None
    await create(tasks_store, a_task(title="then"), key)
    assert await fed(tasks_store) == ["first", "then"]


async def test_writes_of_a_failed_group_commit_are_retried_alone(tasks_store: SQLiteStore) -> None:
    log = tasks_store.path.with_name("tasks.db-wal")
    large = a_task(title="large", description="x" * 1_000_000)
    async with held_up(tasks_store):
        waiting = [create(tasks_store, task) for task in (a_task(title="one"), large, a_task(title="two"))]
        full = contextlib.ExitStack()
        Watched.before_commit = lambda: full.enter_context(full_after(500_000, log)) if commits() == 1 else None
    with full:
        one, rejected, two = await results(*waiting)
    assert (one, two) == (None, None)
    assert isinstance(rejected, StoreUnavailable)
    assert await fed(tasks_store) == ["first", "one", "two"]


async def test_two_processes_write_to_one_file_concurrently(tasks_store: SQLiteStore) -> None:
    other = SQLiteStore(tasks_store.path, queue_size=QUEUE_SIZE)
    await other.open()
    try:
        tasks = [a_task() for _ in range(100)]
        waiting = [create((tasks_store, other)[number % 2], task) for number, task in enumerate(tasks)]
        assert await results(*waiting) == [None] * 100
        found = await tasks_store.get_many([task.id for task in tasks])
        assert len(found) == 100
        positions = [int(change.cursor) for change in await other.changes(None, size=200)]
        assert len(positions) == 100
        assert positions == sorted(set(positions))
    finally:
        await other.close()


WRITERS, EACH = 16, 20


async def test_sixteen_writers_share_commits(tmp_path: Path, watched: type[Watched]) -> None:
    """Through the whole service and not only its store: nothing on the path serializes them."""
    app = create_app(Settings(database_url=SecretStr(f"sqlite:///{tmp_path}/tasks.db")))
    body = b'{"title":"Water the plants"}'
    scope: Scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/tasks",
        "raw_path": b"/v1/tasks",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
        "client": ("127.0.0.1", 1),
    }

    async def post() -> int:
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await app({**scope, "state": {}}, receive, send)
        status: int = sent[0]["status"]
        return status

    async def write() -> list[int]:
        return [await post() for _ in range(EACH)]

    await app.state.store.open()
    watched.statements.clear()
    async with asyncio.timeout(DEADLINE_SECONDS):
        statuses = await asyncio.gather(*(write() for _ in range(WRITERS)))
    assert statuses == [[201] * EACH] * WRITERS
    counted = commits()
    assert await app.state.store.count() == WRITERS * EACH
    await app.state.store.close()
    assert counted <= 0.3 * WRITERS * EACH
