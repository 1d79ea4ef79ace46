"""Which work of a store is retried or settled, and for how long. Here the work fails; where the server or the network
does, see test_database_trouble.py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import asyncpg
import pytest
from databases import connected
from note_stores import TEXT
from notes.store import INSERT, NotesStore
from prometheus_client import REGISTRY

from chassis.postgres import database
from chassis.postgres.database import INITIAL_BACKOFF_SECONDS, Limits, fetch_by_keys, transaction
from chassis.storage import StoreBusy, StoreUnavailable

LIMITS = Limits(pool_size=2)
DEADLOCK = asyncpg.DeadlockDetectedError("deadlock detected")
LOST = ConnectionResetError("connection lost")


class Store(NotesStore):
    """Runs any work."""

    async def run(self, work: Any, settle: Any = None, **options: Any) -> Any:
        return await self._run(work, settle, **options)

    async def run_idempotent(self, work: Any) -> Any:
        return await self._run_idempotent(work)


class Work:
    """Fails with these errors, one after another, and then returns the number of its attempts."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.connections: list[object] = []

    async def __call__(self, db: object) -> int:
        self.connections.append(db)
        if self.errors:
            raise self.errors.pop(0)
        return len(self.connections)


class FakeStuckCommits:
    """Records what it is told. While there are too many, writes are rejected; `found` is the next count of them."""

    def __init__(self) -> None:
        self.limit_reached = self.found = False
        self.abandoned = 0

    def connection_abandoned(self) -> None:
        self.abandoned += 1

    async def refresh(self, _db: object) -> None:
        self.limit_reached = self.found

    async def write(self, work: Callable[[Any], Any], db: Any) -> Any:
        if self.limit_reached:
            raise StoreBusy(self.message())
        return await work(db)

    def message(self) -> str:
        return "commits are stuck"


@pytest.fixture(autouse=True)
def stuck_commits(monkeypatch: pytest.MonkeyPatch) -> FakeStuckCommits:
    fake = FakeStuckCommits()
    monkeypatch.setattr(database, "StuckCommits", lambda **_: fake)
    return fake


@pytest.fixture(autouse=True)
def made_durable(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The connections on which a settled write was made durable."""
    connections: list[object] = []

    async def make_durable(db: object) -> None:
        connections.append(db)

    monkeypatch.setattr(database, "make_durable", make_durable)
    return connections


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    opened = Store(postgres_url, limits=LIMITS, wait_seconds=0)
    await opened.open()
    yield opened
    await opened.close()


def retries(sqlstate: str) -> float:
    return REGISTRY.get_sample_value("notes_db_retries_total", {"sqlstate": sqlstate}) or 0


async def test_a_store_that_is_not_open_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match="not open"):
        await NotesStore("postgresql://localhost", limits=LIMITS, wait_seconds=0).count()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            asyncpg.DiskFullError("no space left"),
            "returned an error: no space left. Fix it there or in NOTES_DATABASE_URL",
        ),
        (asyncpg.InvalidSQLStatementNameError("no such statement"), "NOTES_DATABASE_PREPARED_STATEMENTS"),
    ],
)
async def test_an_error_of_the_server_at_startup_is_reported_at_once(
    error: Exception, message: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def migrate(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(database, "migrate", migrate)
    with pytest.raises(StoreUnavailable, match=message):
        await NotesStore(postgres_url, limits=LIMITS, wait_seconds=60).open()


async def test_while_the_server_is_not_available_each_state_is_logged_and_repeated_at_intervals(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []
    errors = [OSError("down")] * 4 + [OSError("starting")]

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def migrate(*_: object, **__: object) -> None:
        if len(waits) < len(errors):
            raise errors[len(waits)]

    monkeypatch.setattr(database, "migrate", migrate)
    monkeypatch.setattr(database, "CONNECT_RETRY_SECONDS", 1.0)
    monkeypatch.setattr(database, "LOG_INTERVAL_SECONDS", 3.0)
    store = Store(postgres_url, limits=LIMITS, wait_seconds=float("inf"))
    with monkeypatch.context() as patched:
        patched.setattr(database, "time", SimpleNamespace(monotonic=lambda: sum(waits)))
        patched.setattr(database, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": sleep}))
        await store.open()
    await store.close()
    assert waits == [1.0] * len(errors)
    states = [text for text in (record.getMessage() for record in caplog.records) if "is not available yet" in text]
    assert ["down" in state for state in states] == [True, True, False]


async def test_work_that_the_server_rolled_back_is_retried_on_its_connection(
    store: Store, stuck_commits: FakeStuckCommits, made_durable: list[object]
) -> None:
    work, settle, before = Work(DEADLOCK, DEADLOCK), Work(), retries("40P01")
    assert await store.run(work, settle) == 3
    assert len(set(work.connections)) == 1
    assert (settle.connections, made_durable, stuck_commits.abandoned) == ([], [], 0)
    assert retries("40P01") == before + 2


@pytest.mark.parametrize("error", [LOST, TimeoutError(), asyncpg.InterfaceError("connection is closed")])
async def test_a_write_on_a_lost_connection_is_settled_on_another_one_durably(
    error: Exception, store: Store, stuck_commits: FakeStuckCommits, made_durable: list[object]
) -> None:
    work, settle = Work(error), Work(error, DEADLOCK)
    assert await store.run(work, settle) == 3
    first, second, third, fourth = [*work.connections, *settle.connections]
    assert len({first, second, third}) == 3
    assert third is fourth
    assert (made_durable, stuck_commits.abandoned) == ([fourth], 2)


async def test_a_read_on_a_lost_connection_is_retried_on_another_one(store: Store, made_durable: list[object]) -> None:
    work = Work(LOST)
    assert await store.run(work) == 2
    assert len(set(work.connections)) == 2
    assert made_durable == []


async def test_idle_connections_are_replaced_after_one_was_lost(store: Store) -> None:
    both, idle = asyncio.Barrier(2), []

    async def wait(db: object) -> None:
        idle.append(db)
        await both.wait()

    await asyncio.gather(store.run(wait), store.run(wait))
    work = Work(LOST)
    assert await store.run(work) == 2
    assert [connection in idle for connection in work.connections] == [True, False]


async def test_a_write_whose_outcome_was_unknown_before_is_settled_at_once(
    store: Store, made_durable: list[object]
) -> None:
    work, settle = Work(), Work()
    assert await store.run(work, settle, settle_first=True) == 1
    assert (work.connections, settle.connections) == ([], made_durable)


async def test_an_idempotent_write_is_settled_by_repeating_it(store: Store, made_durable: list[object]) -> None:
    work = Work(LOST)
    assert await store.run_idempotent(work) == 2
    assert made_durable == work.connections[1:]


async def test_only_new_writes_are_rejected_while_commits_are_stuck(
    store: Store, stuck_commits: FakeStuckCommits
) -> None:
    stuck_commits.limit_reached = True
    with pytest.raises(StoreBusy):
        await store.run(Work(), Work())
    assert await store.run(Work(), Work(), settle_first=True) == 1
    assert await store.run(Work()) == 1


async def test_a_ping_counts_stuck_commits_and_fails_while_they_keep_writes_from_being_accepted(
    store: Store, stuck_commits: FakeStuckCommits
) -> None:
    stuck_commits.found = True
    with pytest.raises(StoreUnavailable, match="Rejecting writes: commits are stuck"):
        await store.ping()
    stuck_commits.found = False
    await store.ping()


async def test_only_a_write_that_was_never_attempted_is_reported_as_rejected(store: Store) -> None:
    """StoreBusy promises that nothing was changed."""
    busy = StoreBusy("all connections are in use")
    for work, settle, options in (
        (Work(), Work(busy), {"settle_first": True}),
        (Work(LOST), Work(busy), {}),
    ):
        with pytest.raises(StoreUnavailable, match="in use") as error:
            await store.run(work, settle, **options)
        assert type(error.value) is StoreUnavailable
    with pytest.raises(StoreBusy):
        await store.run(Work(DEADLOCK, busy), Work())


async def test_a_retry_is_rejected_if_the_queue_for_connections_is_full(postgres_url: str) -> None:
    store, end = Store(postgres_url, limits=Limits(pool_size=1, queue_size=0), wait_seconds=0), asyncio.Event()
    await store.open()
    others: list[asyncio.Task[Any]] = []

    async def wait(_db: object) -> None:
        await end.wait()

    def take_the_connection() -> None:
        others.append(asyncio.create_task(store.run(wait)))

    with pytest.raises(StoreBusy, match="already waiting"):
        await store.run(Work(LOST), on_failed_attempt=take_the_connection)
    end.set()
    await asyncio.gather(*others)
    await store.close()


async def test_each_failed_attempt_is_reported(store: Store) -> None:
    failed: list[None] = []
    assert await store.run(Work(DEADLOCK, LOST), on_failed_attempt=lambda: failed.append(None)) == 3
    assert len(failed) == 2


@pytest.mark.parametrize("options", [{"waited": LIMITS.seconds}, {"seconds": INITIAL_BACKOFF_SECONDS / 4}])
@pytest.mark.parametrize("error", [DEADLOCK, LOST])
async def test_work_is_not_retried_when_its_time_is_over(
    options: dict[str, float], error: Exception, store: Store
) -> None:
    work = Work(error)
    with pytest.raises(StoreUnavailable, match=f"in time: {error}"):
        await store.run(work, **options)
    assert len(work.connections) == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (asyncpg.QueryCanceledError("canceling statement due to statement timeout"), "returned an error: canceling"),
        (asyncpg.InvalidSQLStatementNameError("no such statement"), "NOTES_DATABASE_PREPARED_STATEMENTS"),
    ],
)
async def test_an_error_that_a_retry_would_most_likely_repeat_is_reported_at_once(
    error: Exception, message: str, store: Store
) -> None:
    work = Work(error)
    with pytest.raises(StoreUnavailable, match=message):
        await store.run(work)
    assert len(work.connections) == 1


async def test_an_error_of_the_work_itself_keeps_the_connection(store: Store, stuck_commits: FakeStuckCommits) -> None:
    work, then = Work(ValueError("a defect")), Work()
    with pytest.raises(ValueError, match="a defect"):
        await store.run(work)
    await store.run(then)
    assert work.connections == then.connections
    assert stuck_commits.abandoned == 0


@pytest.mark.parametrize(("choose", "factor"), [(min, 0.5), (max, 1.5)])
async def test_retries_wait_twice_as_long_each_time_with_jitter(
    choose: Callable[[float, float], float], factor: float, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(database, "SystemRandom", lambda: SimpleNamespace(uniform=choose))
    with monkeypatch.context() as patched:
        patched.setattr(database, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": sleep}))
        await store.run(Work(*[DEADLOCK] * 4))
    assert waits == [factor * INITIAL_BACKOFF_SECONDS * 2**n for n in range(4)]


@pytest.mark.parametrize(("keys", "expected"), [([1], ("one", 1)), ([1, 2], ("many", [1, 2])), ([], ("many", []))])
async def test_a_single_key_has_its_own_statement(keys: list[int], expected: Any) -> None:
    class Connection:
        async def fetch(self, statement: str, value: object) -> tuple[str, object]:
            return statement, value

    assert await fetch_by_keys(cast("Any", Connection()), keys, one="one", many="many") == expected


@pytest.mark.parametrize(
    ("error", "found", "open_after"),
    [(None, True, False), (ValueError, False, False), (asyncio.CancelledError, False, True)],
)
@pytest.mark.usefixtures("store")
async def test_a_transaction_is_committed_or_rolled_back_unless_it_is_cancelled(
    error: type[BaseException] | None, found: bool, open_after: bool, postgres_url: str
) -> None:
    note = uuid4()

    async def insert(db: asyncpg.Connection[asyncpg.Record]) -> None:
        await db.execute(INSERT, note, TEXT)
        if error is not None:
            raise error

    async with connected(postgres_url) as db, connected(postgres_url) as other:
        with contextlib.nullcontext() if error is None else pytest.raises(error):
            async with transaction(db):
                await insert(db)
        assert db.is_in_transaction() is open_after
        assert await other.fetchval("SELECT count(*) FROM notes WHERE id = $1", note) == found
