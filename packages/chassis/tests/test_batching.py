"""Concurrent reads share one statement, and each gets the result it would get alone."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from databases import BLOCKED, connected
from note_stores import TEXT, add, behind_proxy, open_store
from notes.store import GET, GET_MANY, NotesStore, metrics
from prometheus_client import REGISTRY

from chassis.postgres.batching import MAX_BATCH_SIZE, Batcher
from chassis.postgres.deadlines import TICK_SECONDS, Deadlines
from chassis.postgres.wait_limit import WaitLimit
from chassis.storage import StoreBusy, StoreUnavailable

DEADLINE_SECONDS = 30
LEADERS = 1
"""The maximum number of statements in flight."""
LONG_TIMEOUTS = {"seconds": 60, "statement_seconds": 60, "lock_seconds": 60}
"""Limits that no test here reaches."""


def metric(name: str) -> float:
    """The current value of a metric."""
    value = REGISTRY.get_sample_value(f"notes_db_{name}")
    assert value is not None
    return value


class Statements:
    """Records the statements sent from now on: the number of keys of each, and how many are in flight."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys: list[int] = []
        self.in_flight = 0
        self.max_in_flight = 0
        self.hold: asyncio.Event | None = None
        """If there is one, results are delayed until it is set."""
        for method in ("fetch", "fetchrow"):
            monkeypatch.setattr(asyncpg.Connection, method, self._record(getattr(asyncpg.Connection, method)))

    def _record(self, real: Callable[..., Any]) -> Callable[..., Any]:
        async def execute(db: Any, query: str, *values: Any) -> Any:
            if query not in (GET, GET_MANY):
                return await real(db, query, *values)
            self.keys.append(len(values[0]) if query == GET_MANY else 1)
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
            try:
                rows = await real(db, query, *values)
                if self.hold is not None:
                    await self.hold.wait()
                return rows
            finally:
                self.in_flight -= 1

        return execute


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    return Statements(monkeypatch)


def assert_batched(statements: Statements, others: int) -> None:
    """The leaders sent one statement each, then all others shared one."""
    assert statements.keys == [1] * LEADERS + [others]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def locked(url: str) -> AsyncIterator[Callable[[], Any]]:
    """Locks the table of notes until the end of the block. Yields a function that counts the blocked sessions."""
    async with connected(url) as other, other.transaction():
        await other.execute("LOCK TABLE notes")
        yield lambda: other.fetchval(BLOCKED)


async def start_leaders(store: NotesStore, note: UUID, blocked: Callable[[], Any]) -> list[asyncio.Task[str | None]]:
    """Reads by leaders, all blocked in PostgreSQL."""
    reads = [asyncio.create_task(store.get(note)) for _ in range(LEADERS)]
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await blocked() < LEADERS:
            await asyncio.sleep(0.005)
    return reads


async def start_waiters(store: NotesStore, notes: list[UUID]) -> list[asyncio.Task[str | None]]:
    """Reads that wait for the next batch."""
    reads = [asyncio.create_task(store.get(note)) for note in notes]
    await until(lambda: metric("pool_waiting") == len(reads))
    return reads


async def test_a_single_client_sends_the_single_row_statement(postgres_url: str, statements: Statements) -> None:
    async with open_store(postgres_url) as store:
        note = await add(store)
        assert [await store.get(note) for _ in range(10)] == [TEXT] * 10
    assert statements.keys == [1] * 10
    assert statements.max_in_flight == 1


async def test_waiting_reads_share_one_statement_and_each_gets_its_own_row(
    postgres_url: str, statements: Statements
) -> None:
    async with open_store(postgres_url, **LONG_TIMEOUTS) as store:
        notes = [uuid4() for _ in range(10)]
        for note in notes:
            await store.add(note, str(note))
        async with locked(postgres_url) as blocked:
            first = await start_leaders(store, notes[0], blocked)
            missing = uuid4()
            requested = [*notes, missing, notes[3]]  # one that does not exist, and a duplicate
            others = await start_waiters(store, requested)
        assert await asyncio.gather(*first) == [str(notes[0])] * LEADERS
        assert await asyncio.gather(*others) == [None if note == missing else str(note) for note in requested]
    assert_batched(statements, len(requested))


async def test_at_most_one_batch_is_in_flight_and_other_work_gets_a_connection(
    postgres_url: str, statements: Statements
) -> None:
    async with open_store(postgres_url, pool_size=LEADERS + 1, **LONG_TIMEOUTS) as store:
        note = await add(store)
        async with locked(postgres_url) as blocked:
            first = await start_leaders(store, note, blocked)
            others = await start_waiters(store, [note] * 20)
            async with asyncio.timeout(DEADLINE_SECONDS):
                await store.ping()
        assert await asyncio.gather(*first, *others) == [TEXT] * (LEADERS + 20)
    assert statements.max_in_flight == LEADERS


async def test_a_batch_has_a_maximum_size(postgres_url: str, statements: Statements) -> None:
    async with open_store(postgres_url, queue_size=1000, **LONG_TIMEOUTS) as store:
        note = await add(store)
        async with locked(postgres_url) as blocked:
            first = await start_leaders(store, note, blocked)
            others = await start_waiters(store, [note] * (2 * MAX_BATCH_SIZE + 1))
        assert set(await asyncio.gather(*first, *others)) == {TEXT}
    assert statements.keys[LEADERS : LEADERS + 2] == [MAX_BATCH_SIZE] * 2
    assert sum(statements.keys) == LEADERS + 2 * MAX_BATCH_SIZE + 1


async def test_a_statement_in_flight_does_not_serve_later_reads(postgres_url: str, statements: Statements) -> None:
    """Like a client that reads its own write while an older read of the same row is in flight."""
    async with open_store(postgres_url, **LONG_TIMEOUTS) as store, asyncio.timeout(DEADLINE_SECONDS):
        note = await add(store)
        statements.hold = asyncio.Event()
        old = [asyncio.create_task(store.get(note)) for _ in range(LEADERS)]
        await until(lambda: len(statements.keys) == LEADERS)
        await store.replace([note], "new")
        later = await start_waiters(store, [note] * 3)
        statements.hold.set()
        assert await asyncio.gather(*old) == [TEXT] * LEADERS
        assert await asyncio.gather(*later) == ["new"] * 3


async def test_reads_that_arrive_while_the_leader_waits_for_a_connection_join_its_batch(
    postgres_url: str, statements: Statements
) -> None:
    async with open_store(postgres_url, pool_size=1, **LONG_TIMEOUTS) as store:
        note = await add(store)
        async with locked(postgres_url):
            blocker = asyncio.create_task(store.count())
            await asyncio.sleep(0)
            reads = await start_waiters(store, [note] * 10)  # one of them waits for the connection
        await blocker
        assert await asyncio.gather(*reads) == [TEXT] * 10
    assert statements.keys == [10]


async def test_leadership_is_handed_over_in_any_order_of_arrival(postgres_url: str, statements: Statements) -> None:
    async with open_store(postgres_url, **LONG_TIMEOUTS) as store, asyncio.timeout(DEADLINE_SECONDS):
        notes = [await add(store) for _ in range(5)]

        async def client(number: int) -> None:
            for turn in range(50):
                if (number + turn) % 7 == 0:
                    await asyncio.sleep(0)
                assert await store.get(notes[(number + turn) % 5]) == TEXT

        await asyncio.gather(*(client(number) for number in range(16)))
        assert statements.max_in_flight == LEADERS
        assert sum(statements.keys) == 16 * 50
        # There is no leader any more: the next read is not batched.
        statements.keys.clear()
        assert await store.get(notes[0]) == TEXT
    assert statements.keys == [1]


async def test_the_batch_of_a_cancelled_leader_is_retried(postgres_url: str, statements: Statements) -> None:
    async with open_store(postgres_url, **LONG_TIMEOUTS) as store:
        note = await add(store)
        async with locked(postgres_url) as blocked:
            first = await start_leaders(store, note, blocked)
            others = await start_waiters(store, [note] * 5)
            first[0].cancel()
            await until(lambda: 5 in statements.keys)  # the first of the others is the leader now
            others[0].cancel()
            await asyncio.wait(others[:1])
        assert await asyncio.gather(*first[1:], *others[1:]) == [TEXT] * (LEADERS + 3)
        await assert_idle(store, note, statements)


async def assert_idle(store: NotesStore, note: UUID, statements: Statements) -> None:
    """There are no waiters and no leader: the next reads behave like the first ones."""
    await until(lambda: statements.in_flight == 0)
    assert metric("pool_waiting") == 0
    assert metric("pool_connections") == metric("pool_idle_connections")
    await asyncio.gather(*(store.count() for _ in range(LEADERS)))  # opens as many connections
    statements.keys.clear()
    assert await asyncio.gather(*(store.get(note) for _ in range(LEADERS + 6))) == [TEXT] * (LEADERS + 6)
    assert_batched(statements, 6)


async def test_a_cancelled_waiter_leaves_no_trace(postgres_url: str, statements: Statements) -> None:
    async with open_store(postgres_url, **LONG_TIMEOUTS) as store:
        note = await add(store)
        async with locked(postgres_url) as blocked:
            first = await start_leaders(store, note, blocked)
            others = await start_waiters(store, [note] * 6)
            for read in others[::2]:
                read.cancel()
            await asyncio.wait(others[::2])
            assert metric("pool_waiting") == 3
        assert await asyncio.gather(*first, *others[1::2]) == [TEXT] * (LEADERS + 3)
        assert_batched(statements, 3)
        await assert_idle(store, note, statements)


async def test_leadership_is_not_lost_if_the_next_leader_is_cancelled_during_handover(
    postgres_url: str, statements: Statements
) -> None:
    async with open_store(postgres_url, **LONG_TIMEOUTS) as store, asyncio.timeout(DEADLINE_SECONDS):
        note = await add(store)
        for turns in range(40):
            reads = [asyncio.create_task(store.get(note)) for _ in range(12)]
            for _ in range(turns % 20):
                await asyncio.sleep(0)
            for read in reads[turns % 3 :: 3]:
                read.cancel()
            results = await asyncio.gather(*reads, return_exceptions=True)
            texts = [result for result in results if not isinstance(result, asyncio.CancelledError)]
            assert len(texts) >= 8
            assert set(texts) == {TEXT}
        await assert_idle(store, note, statements)


class FakeDatabase:
    """A fake database: the test decides when its statements complete. After a lost connection it retries."""

    def __init__(self, seconds: float = DEADLINE_SECONDS, *, max_waiting: int = 10) -> None:
        limit = WaitLimit(max_waiting, metrics)
        self.reads: Batcher[int, tuple[int]] = Batcher(
            self._run, limit, seconds=seconds, execute_one=self._execute_one, execute_many=self._execute_many
        )
        self.is_closed = False
        self.statements: list[list[int]] = []
        self.results: list[asyncio.Future[None]] = []
        self.loses_a_row = False

    async def _run(
        self, work: Callable[[Any], Any], settle: Any, *, settle_first: bool, waited: float, on_failed_attempt: Any
    ) -> Any:
        if self.is_closed:
            raise StoreUnavailable("the storage is not open")
        try:
            return await work(self)
        except ConnectionResetError:
            on_failed_attempt()
            return await work(self)

    async def _execute_one(self, _: Any, key: int) -> tuple[int]:
        return (await self._execute_many(None, [key]))[0]

    async def _execute_many(self, _: Any, keys: list[int]) -> list[tuple[int]]:
        self.statements.append(keys)
        self.results.append(asyncio.get_running_loop().create_future())
        await self.results[-1]
        return [(key,) for key in keys][: len(keys) - self.loses_a_row]

    async def get(self, *keys: int) -> list[asyncio.Task[Any]]:
        """A read per key, each started and now waiting."""
        reads = [asyncio.create_task(self.reads.submit(key)) for key in keys]
        await asyncio.sleep(0)
        return reads

    async def complete(self, statement: list[int], error: Exception | None = None) -> None:
        """Ends the last statement with these keys, once it was sent."""
        await until(lambda: statement in self.statements)
        (result,) = (
            result
            for keys, result in zip(self.statements, self.results, strict=True)
            if keys == statement and not result.done()
        )
        if error is None:
            result.set_result(None)
        else:
            result.set_exception(error)

    async def batch_of(self, *keys: int) -> list[asyncio.Task[Any]]:
        """Reads that share a statement in flight."""
        first = await self.get(0)
        reads = await self.get(*keys)
        await self.complete([0])
        assert await asyncio.gather(*first) == [(0,)]
        await until(lambda: list(keys) in self.statements)
        return reads

    async def assert_idle(self) -> None:
        """There are no waiters and no leader: the next reads are batched like the first ones."""
        assert metric("pool_waiting") == 0
        self.statements.clear()
        self.results.clear()
        reads = await self.batch_of(1, 2, 3)
        assert self.statements == [[0], [1, 2, 3]]
        await self.complete([1, 2, 3])
        assert await asyncio.gather(*reads) == [(1,), (2,), (3,)]


async def test_a_batch_takes_at_most_its_maximum_of_waiters() -> None:
    database = FakeDatabase(max_waiting=1000)
    keys = list(range(1, 2 * MAX_BATCH_SIZE + 2))
    first = await database.get(0)
    reads = await database.get(*keys)
    await database.complete([0])
    for start in range(0, len(keys), MAX_BATCH_SIZE):
        await database.complete(keys[start : start + MAX_BATCH_SIZE])
    assert await asyncio.gather(*first, *reads) == [(key,) for key in [0, *keys]]


async def test_the_wait_for_a_batch_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    database = FakeDatabase()
    first = await database.get(0)
    reads = await database.get(1, 2, 3)
    count, seconds = metric("pool_acquire_seconds_count"), metric("pool_acquire_seconds_sum")
    now += 5
    await database.complete([0])
    await until(lambda: [1, 2, 3] in database.statements)
    assert metric("pool_acquire_seconds_count") == count + 2  # the pool measures the leader's
    assert metric("pool_acquire_seconds_sum") == seconds + 2 * 5
    await database.complete([1, 2, 3])
    await asyncio.gather(*first, *reads)


@pytest.mark.parametrize(
    "error",
    [asyncpg.QueryCanceledError("statement timeout"), ZeroDivisionError("unexpected")],
    ids=["known", "unknown"],
)
async def test_an_error_that_would_be_the_same_alone_fails_every_read_of_the_batch(error: Exception) -> None:
    database = FakeDatabase()
    reads = await database.batch_of(1, 2, 3)
    reads[2].cancel()
    await database.complete([1, 2, 3], error)
    assert await asyncio.gather(*reads[:2], return_exceptions=True) == [error, error]
    assert database.statements == [[0], [1, 2, 3]]
    await database.assert_idle()


async def test_a_statement_with_too_few_results_fails_its_reads_at_once() -> None:
    database = FakeDatabase()
    reads = await database.batch_of(1, 2, 3)
    database.loses_a_row = True
    await database.complete([1, 2, 3])
    results = await asyncio.gather(*reads, return_exceptions=True)
    assert isinstance(results[0], ValueError)
    assert isinstance(results[2], ValueError)


async def test_reads_of_a_rejected_statement_are_executed_separately() -> None:
    database = FakeDatabase()
    reads = await database.batch_of(1, 2, 3)
    await database.complete([1, 2, 3], asyncpg.DataError("out of range"))
    await until(lambda: len(database.statements) == 5)
    assert database.statements[2:] == [[1], [2], [3]]
    for key in (1, 2, 3):
        await database.complete([key])
    assert await asyncio.gather(*reads) == [(1,), (2,), (3,)]
    await database.assert_idle()


async def test_after_a_lost_connection_all_reads_are_executed_separately() -> None:
    database = FakeDatabase()
    reads = [*await database.batch_of(1, 2), *await database.get(3, 4)]
    await database.complete([1, 2], ConnectionResetError())
    await until(lambda: len(database.statements) == 6)
    assert sorted(database.statements[2:]) == [[1], [2], [3], [4]]
    for key in (1, 2, 3, 4):
        await database.complete([key])
    assert await asyncio.gather(*reads) == [(1,), (2,), (3,), (4,)]
    await database.assert_idle()


async def test_reads_of_a_cancelled_leader_are_executed_separately() -> None:
    database = FakeDatabase()
    leader, *others = await database.batch_of(1, 2, 3)
    leader.cancel()
    for key in (2, 3):
        await database.complete([key])
    assert await asyncio.gather(*others) == [(2,), (3,)]
    assert leader.cancelled()
    await database.assert_idle()


async def test_a_read_cancelled_during_its_statement_fails_no_other() -> None:
    database = FakeDatabase()
    reads = await database.batch_of(1, 2, 3)
    reads[1].cancel()
    await database.complete([1, 2, 3])
    assert await asyncio.gather(*reads[::2]) == [(1,), (3,)]
    assert reads[1].cancelled()
    await database.assert_idle()


@pytest.mark.parametrize("is_handed_over_first", [True, False])
async def test_a_read_cancelled_while_it_gets_the_lead_passes_it_on(is_handed_over_first: bool) -> None:
    database = FakeDatabase()
    first = await database.get(0)
    reads = await database.get(1, 2, 3)
    await database.complete([0])
    if is_handed_over_first:
        await asyncio.sleep(0)
    reads[0].cancel()
    await database.complete([2, 3])
    assert await asyncio.gather(*first, *reads[1:]) == [(0,), (2,), (3,)]
    assert reads[0].cancelled()
    await database.assert_idle()


@pytest.mark.parametrize(
    ("is_sent", "expected"), [(False, StoreBusy), (True, StoreUnavailable)], ids=["got the lead", "got its result"]
)
async def test_a_read_that_times_out_just_as_it_is_woken_says_whether_it_was_sent(
    is_sent: bool, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def time_out(_self: Deadlines, _deadline: float, woken: asyncio.Future[Any]) -> Any:
        await asyncio.wait([woken])
        if woken.result() == (1,) or not is_sent:
            raise TimeoutError
        return woken.result()

    monkeypatch.setattr(Deadlines, "enforce", time_out)
    database = FakeDatabase()
    first = await database.get(0)
    reads = await database.get(2, 1) if is_sent else await database.get(1)
    await database.complete([0])
    if is_sent:
        await database.complete([2, 1])
        assert await reads.pop(0) == (2,)
    with pytest.raises(expected) as raised:
        await reads[0]
    assert type(raised.value) is expected
    await asyncio.gather(*first)
    monkeypatch.undo()
    await database.assert_idle()


async def test_disabled_batching_executes_each_read_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batcher, "disabled", True)
    database = FakeDatabase()
    reads = await database.get(1, 2, 3)
    assert database.statements == [[1], [2], [3]]
    for key in (1, 2, 3):
        await database.complete([key])
    assert await asyncio.gather(*reads) == [(1,), (2,), (3,)]


async def test_waiting_too_long_for_a_batch_fails_as_busy() -> None:
    database = FakeDatabase(seconds=0.1)
    first = await database.get(*range(LEADERS))
    rejected = metric("rejected_total")
    with pytest.raises(StoreBusy, match="its batch could not be sent in time"):  # a connection may well be idle
        await database.reads.submit(7)
    assert metric("rejected_total") == rejected + 1
    assert metric("pool_waiting") == 0
    for result in database.results:
        result.set_result(None)
    assert await asyncio.gather(*first) == [(key,) for key in range(LEADERS)]
    assert database.statements == [[key] for key in range(LEADERS)]


async def test_a_read_that_waits_for_less_than_its_limit_gets_its_result() -> None:
    database = FakeDatabase()
    first = await database.get(0)
    (read,) = await database.get(1)
    await asyncio.sleep(3 * TICK_SECONDS)
    for key in (0, 1):
        await database.complete([key])
    assert await asyncio.gather(*first, read) == [(0,), (1,)]


async def test_a_read_that_times_out_in_a_batch_fails_no_other() -> None:
    database = FakeDatabase(seconds=0.5)
    await database.get(*range(LEADERS))
    leader, impatient = await database.get(7, 8)
    database.results[0].set_result(None)
    await until(lambda: [7, 8] in database.statements)
    with pytest.raises(StoreUnavailable, match="is not responding"):
        await impatient
    rejected = metric("rejected_total")
    database.results[-1].set_result(None)
    assert await leader == (7,)
    assert metric("rejected_total") == rejected


async def test_closing_the_storage_fails_every_waiter() -> None:
    database = FakeDatabase(seconds=DEADLINE_SECONDS)
    first = await database.get(*range(LEADERS))
    others = await database.get(7, 8, 9)
    database.is_closed = True
    for result in database.results:
        result.set_result(None)
    assert await asyncio.gather(*first) == [(key,) for key in range(LEADERS)]
    results = await asyncio.gather(*others, return_exceptions=True)
    assert [str(result) for result in results] == ["the storage is not open"] * 3


async def test_batched_reads_count_towards_the_queue_limit(postgres_url: str) -> None:
    async with open_store(postgres_url, queue_size=4, **LONG_TIMEOUTS) as store:
        note = await add(store)
        async with locked(postgres_url) as blocked:
            first = await start_leaders(store, note, blocked)
            others = await start_waiters(store, [note] * 4)
            with pytest.raises(StoreBusy, match="4 requests are already waiting"):
                await store.get(note)
            more = [asyncio.create_task(store.count()) for _ in range(5 - LEADERS)]  # each gets a connection
            await until(lambda: metric("pool_connections") == 5)
            with pytest.raises(StoreBusy, match="4 requests are already waiting"):
                await store.count()
        await asyncio.gather(*first, *others, *more)


async def test_a_new_leader_keeps_its_place_in_the_queue(postgres_url: str) -> None:
    async with open_store(postgres_url, pool_size=1, queue_size=3, **LONG_TIMEOUTS) as store:
        note = await add(store)
        async with locked(postgres_url):
            blocker = asyncio.create_task(store.count())
            await asyncio.sleep(0)
            reads = await start_waiters(store, [note] * 3)  # the first is the leader, and waits for the connection
            reads[0].cancel()  # the second becomes the leader
            await asyncio.wait(reads[:1])
            late = asyncio.create_task(store.get(note))
            await until(lambda: metric("pool_waiting") == 3)
            with pytest.raises(StoreBusy):
                await store.get(note)
        assert await asyncio.gather(*reads[1:], late) == [TEXT] * 3
        await blocker


async def test_the_wait_of_each_read_is_measured(postgres_url: str) -> None:
    async with open_store(postgres_url, **LONG_TIMEOUTS) as store:
        note = await add(store)
        count, seconds = metric("pool_acquire_seconds_count"), metric("pool_acquire_seconds_sum")
        async with locked(postgres_url) as blocked:
            first = await start_leaders(store, note, blocked)
            others = await start_waiters(store, [note] * 5)
            await asyncio.sleep(0.2)
        await asyncio.gather(*first, *others)
        assert metric("pool_acquire_seconds_count") == count + LEADERS + 5
        assert metric("pool_acquire_seconds_sum") - seconds >= 5 * 0.2


async def test_a_database_error_fails_every_read_of_the_batch(postgres_url: str, statements: Statements) -> None:
    async with open_store(postgres_url, seconds=60, statement_seconds=60, lock_seconds=0.5) as store:
        note = await add(store)
        async with locked(postgres_url) as blocked:
            first = await start_leaders(store, note, blocked)
            others = await start_waiters(store, [note] * 5)
            results = await asyncio.gather(*first, *others, return_exceptions=True)
            assert statements.keys == [1] * LEADERS + [5]
        assert {type(result) for result in results} == {StoreUnavailable}
        assert {"lock timeout" in str(result) for result in results} == {True}
        await assert_idle(store, note, statements)


async def test_an_unexpected_error_is_raised_to_every_read_of_the_batch(
    postgres_url: str, statements: Statements
) -> None:
    async with open_store(postgres_url, **LONG_TIMEOUTS) as store, connected(postgres_url) as other:
        note = await add(store)
        await other.execute("ALTER TABLE notes RENAME TO elsewhere")
        results = await asyncio.gather(*(store.get(note) for _ in range(10)), return_exceptions=True)
        assert {type(result) for result in results} == {asyncpg.UndefinedTableError}
        await other.execute("ALTER TABLE elsewhere RENAME TO notes")
        await assert_idle(store, note, statements)


async def test_a_cut_connection_fails_no_read_of_the_batch(postgres_url: str) -> None:
    async with behind_proxy(postgres_url) as (store, proxy), asyncio.timeout(DEADLINE_SECONDS):
        note = await add(store)
        for _ in range(10):
            reads = [asyncio.create_task(store.get(note)) for _ in range(20)]
            await asyncio.sleep(0.002)
            proxy.cut()
            assert await asyncio.gather(*reads) == [TEXT] * 20


async def test_reads_on_a_frozen_connection_are_retried_individually(postgres_url: str, statements: Statements) -> None:
    async with behind_proxy(postgres_url, seconds=30, statement_seconds=0.2) as (store, proxy):
        note = await add(store)
        await asyncio.gather(*(store.get(note) for _ in range(10)))
        statements.keys.clear()
        proxy.freeze_open()
        assert await asyncio.gather(*(store.get(note) for _ in range(10))) == [TEXT] * 10
        await assert_idle(store, note, statements)


async def test_reads_fail_while_the_server_is_down_and_recover_afterwards(
    postgres_url: str, statements: Statements
) -> None:
    async with behind_proxy(postgres_url, seconds=3) as (store, proxy):
        note = await add(store)
        proxy.before_response = lambda _: True
        results = await asyncio.gather(*(store.get(note) for _ in range(16)), return_exceptions=True)
        assert {type(result) for result in results} <= {StoreUnavailable, StoreBusy}
        assert StoreUnavailable in {type(result) for result in results}
        proxy.before_response = None
        await assert_idle(store, note, statements)


async def test_batching_works_without_prepared_statements(postgres_url: str, statements: Statements) -> None:
    async with open_store(postgres_url, prepared_statements=False) as store:
        note = await add(store)
        assert await asyncio.gather(*(store.get(note) for _ in range(20))) == [TEXT] * 20
    assert len(statements.keys) < 20


async def test_tracing_of_statements_disables_batching(
    postgres_url: str, statements: Statements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Batcher, "disabled", True)
    async with open_store(postgres_url) as store:
        note = await add(store)
        assert await asyncio.gather(*(store.get(note) for _ in range(20))) == [TEXT] * 20
    assert statements.keys == [1] * 20
