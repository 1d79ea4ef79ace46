"""Reads that wait at the same time are one statement, and each of those who wait is served as if it were alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from databases import BLOCKED, connected
from notes.store import GET, GET_MANY, NotesStore, metrics
from opened import TEXT, add, behind_proxy, opened
from prometheus_client import REGISTRY

from chassis.postgres.joined import MAX_ITEMS, Joined
from chassis.postgres.wait_limit import WaitLimit
from chassis.storage import StoreBusy, StoreUnavailable

DEADLINE_SECONDS = 30
LEADERS = 1
"""Statements that may be under way at once."""
PATIENT = {"seconds": 60, "statement_seconds": 60, "lock_seconds": 60}
"""Limits that no test here comes to."""


def figure(name: str) -> float:
    """What the metrics say."""
    value = REGISTRY.get_sample_value(f"notes_db_{name}")
    assert value is not None
    return value


class Statements:
    """What connections are asked from now on: how many keys each statement has, and how many are under way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys: list[int] = []
        self.under_way = 0
        self.most_under_way = 0
        self.hold: asyncio.Event | None = None
        """Once set, a statement that was answered is held back until then."""
        for method in ("fetch", "fetchrow"):
            monkeypatch.setattr(asyncpg.Connection, method, self._counted(getattr(asyncpg.Connection, method)))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        async def ask(db: Any, query: str, *values: Any) -> Any:
            if query not in (GET, GET_MANY):
                return await real(db, query, *values)
            self.keys.append(len(values[0]) if query == GET_MANY else 1)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            try:
                rows = await real(db, query, *values)
                if self.hold is not None:
                    await self.hold.wait()
                return rows
            finally:
                self.under_way -= 1

        return ask


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    return Statements(monkeypatch)


def joined_after(statements: Statements, others: int) -> None:
    """First those that may be under way at once, each for itself, then all others in one."""
    assert statements.keys == [1] * LEADERS + [others]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not true():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def locked(url: str) -> AsyncIterator[Callable[[], Any]]:
    """Nobody can read notes until the end of the block. Yields how many wait for that in PostgreSQL."""
    async with connected(url) as other, other.transaction():
        await other.execute("LOCK TABLE notes")
        yield lambda: other.fetchval(BLOCKED)


async def leading(store: NotesStore, note: UUID, blocked: Callable[[], Any]) -> list[asyncio.Task[str | None]]:
    """As many reads as may be under way at once, all waiting for PostgreSQL."""
    reads = [asyncio.create_task(store.get(note)) for _ in range(LEADERS)]
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await blocked() < LEADERS:
            await asyncio.sleep(0.005)
    return reads


async def waiting(store: NotesStore, notes: list[UUID]) -> list[asyncio.Task[str | None]]:
    """Reads that wait to be joined."""
    reads = [asyncio.create_task(store.get(note)) for note in notes]
    await until(lambda: figure("pool_waiting") == len(reads))
    return reads


async def test_one_client_alone_sends_the_statement_for_one_row(postgres_url: str, statements: Statements) -> None:
    async with opened(postgres_url) as store:
        note = await add(store)
        assert [await store.get(note) for _ in range(10)] == [TEXT] * 10
    assert statements.keys == [1] * 10
    assert statements.most_under_way == 1


async def test_those_who_wait_are_one_statement_and_each_has_its_own_row(
    postgres_url: str, statements: Statements
) -> None:
    async with opened(postgres_url, **PATIENT) as store:
        notes = [uuid4() for _ in range(10)]
        for note in notes:
            await store.add(note, str(note))
        async with locked(postgres_url) as blocked:
            first = await leading(store, notes[0], blocked)
            missing = uuid4()
            wanted = [*notes, missing, notes[3]]  # what is not there, and one that another wants too
            others = await waiting(store, wanted)
        assert await asyncio.gather(*first) == [str(notes[0])] * LEADERS
        assert await asyncio.gather(*others) == [None if note == missing else str(note) for note in wanted]
    joined_after(statements, len(wanted))


async def test_no_more_than_one_statement_is_under_way_and_other_work_finds_a_connection(
    postgres_url: str, statements: Statements
) -> None:
    async with opened(postgres_url, pool_size=LEADERS + 1, **PATIENT) as store:
        note = await add(store)
        async with locked(postgres_url) as blocked:
            first = await leading(store, note, blocked)
            others = await waiting(store, [note] * 20)
            async with asyncio.timeout(DEADLINE_SECONDS):
                await store.ping()
        assert await asyncio.gather(*first, *others) == [TEXT] * (LEADERS + 20)
    assert statements.most_under_way == LEADERS


async def test_a_statement_asks_for_so_many_rows_and_no_more(postgres_url: str, statements: Statements) -> None:
    async with opened(postgres_url, queue_size=1000, **PATIENT) as store:
        note = await add(store)
        async with locked(postgres_url) as blocked:
            first = await leading(store, note, blocked)
            others = await waiting(store, [note] * (2 * MAX_ITEMS + 1))
        assert set(await asyncio.gather(*first, *others)) == {TEXT}
    assert statements.keys[LEADERS : LEADERS + 2] == [MAX_ITEMS] * 2
    assert sum(statements.keys) == LEADERS + 2 * MAX_ITEMS + 1


async def test_a_statement_that_is_under_way_answers_nobody_who_comes_later(
    postgres_url: str, statements: Statements
) -> None:
    """As a client that reads what it has just written, while an older read of the same is not answered yet."""
    async with opened(postgres_url, **PATIENT) as store, asyncio.timeout(DEADLINE_SECONDS):
        note = await add(store)
        statements.hold = asyncio.Event()
        old = [asyncio.create_task(store.get(note)) for _ in range(LEADERS)]
        await until(lambda: len(statements.keys) == LEADERS)
        await store.replace([note], "new")
        later = await waiting(store, [note] * 3)
        statements.hold.set()
        assert await asyncio.gather(*old) == [TEXT] * LEADERS
        assert await asyncio.gather(*later) == ["new"] * 3


async def test_who_comes_while_a_connection_is_waited_for_is_taken_along(
    postgres_url: str, statements: Statements
) -> None:
    async with opened(postgres_url, pool_size=1, **PATIENT) as store:
        note = await add(store)
        async with locked(postgres_url):
            holding = asyncio.create_task(store.count())
            await asyncio.sleep(0)
            reads = await waiting(store, [note] * 10)  # one of them for the connection
        await holding
        assert await asyncio.gather(*reads) == [TEXT] * 10
    assert statements.keys == [10]


async def test_the_lead_is_handed_over_however_they_come(postgres_url: str, statements: Statements) -> None:
    async with opened(postgres_url, **PATIENT) as store, asyncio.timeout(DEADLINE_SECONDS):
        notes = [await add(store) for _ in range(5)]

        async def client(number: int) -> None:
            for turn in range(50):
                if (number + turn) % 7 == 0:
                    await asyncio.sleep(0)
                assert await store.get(notes[(number + turn) % 5]) == TEXT

        await asyncio.gather(*(client(number) for number in range(16)))
        assert statements.most_under_way == LEADERS
        assert sum(statements.keys) == 16 * 50
        # Nobody leads any more: the next one is alone.
        statements.keys.clear()
        assert await store.get(notes[0]) == TEXT
    assert statements.keys == [1]


async def test_where_a_leader_is_cancelled_those_it_asked_for_are_asked_for_again(
    postgres_url: str, statements: Statements
) -> None:
    async with opened(postgres_url, **PATIENT) as store:
        note = await add(store)
        async with locked(postgres_url) as blocked:
            first = await leading(store, note, blocked)
            others = await waiting(store, [note] * 5)
            first[0].cancel()
            await until(lambda: 5 in statements.keys)  # the first of the others leads now
            others[0].cancel()
            await asyncio.wait(others[:1])
        assert await asyncio.gather(*first[1:], *others[1:]) == [TEXT] * (LEADERS + 3)
        await nobody_is_left(store, note, statements)


async def nobody_is_left(store: NotesStore, note: UUID, statements: Statements) -> None:
    """Nobody waits or leads any more: it all begins as it did at first."""
    await until(lambda: statements.under_way == 0)
    assert figure("pool_waiting") == 0
    assert figure("pool_connections") == figure("pool_idle_connections")
    await asyncio.gather(*(store.count() for _ in range(LEADERS)))  # so many connections are there
    statements.keys.clear()
    assert await asyncio.gather(*(store.get(note) for _ in range(LEADERS + 6))) == [TEXT] * (LEADERS + 6)
    joined_after(statements, 6)


async def test_who_is_cancelled_while_it_waits_leaves_no_trace(postgres_url: str, statements: Statements) -> None:
    async with opened(postgres_url, **PATIENT) as store:
        note = await add(store)
        async with locked(postgres_url) as blocked:
            first = await leading(store, note, blocked)
            others = await waiting(store, [note] * 6)
            for read in others[::2]:
                read.cancel()
            await asyncio.wait(others[::2])
            assert figure("pool_waiting") == 3
        assert await asyncio.gather(*first, *others[1::2]) == [TEXT] * (LEADERS + 3)
        joined_after(statements, 3)
        await nobody_is_left(store, note, statements)


async def test_a_lead_is_not_lost_with_who_is_cancelled_in_the_moment_it_is_given(
    postgres_url: str, statements: Statements
) -> None:
    async with opened(postgres_url, **PATIENT) as store, asyncio.timeout(DEADLINE_SECONDS):
        note = await add(store)
        for turns in range(40):
            reads = [asyncio.create_task(store.get(note)) for _ in range(12)]
            for _ in range(turns % 20):
                await asyncio.sleep(0)
            for read in reads[turns % 3 :: 3]:
                read.cancel()
            results = await asyncio.gather(*reads, return_exceptions=True)
            answered = [result for result in results if not isinstance(result, asyncio.CancelledError)]
            assert len(answered) >= 8
            assert set(answered) == {TEXT}
        await nobody_is_left(store, note, statements)


class Held:
    """In the place of a database: its statements are answered when a test says so."""

    def __init__(self, seconds: float) -> None:
        limit = WaitLimit(10, 5, metrics)
        self.reads: Joined[int, tuple[int]] = Joined(
            self._run, limit, seconds=seconds, alone=self._alone, together=self._together
        )
        self.is_closed = False
        self.asked: list[list[int]] = []
        self.answers: list[asyncio.Future[None]] = []
        self.fails: StoreUnavailable | None = None

    async def _run(
        self, work: Callable[[Any], Any], settle: Any, *, begin_by_settling: bool, waited: float, failed: Any
    ) -> Any:
        if self.is_closed:
            raise StoreUnavailable("the storage is not open")
        return await work(self)

    async def _alone(self, _: Any, key: int) -> tuple[int]:
        return (await self._together(None, [key]))[0]

    async def _together(self, _: Any, keys: list[int]) -> list[tuple[int]]:
        self.asked.append(keys)
        self.answers.append(asyncio.get_running_loop().create_future())
        await self.answers[-1]
        return [(key,) for key in keys]

    async def get(self, *keys: int) -> list[asyncio.Task[Any]]:
        """So many reads, up to where they wait."""
        reads = [asyncio.create_task(self.reads.do(key)) for key in keys]
        await asyncio.sleep(0)
        return reads


async def test_who_waits_to_be_joined_for_too_long_is_told_that_all_are_busy() -> None:
    held = Held(seconds=0.1)
    first = await held.get(*range(LEADERS))
    rejected = figure("rejected_total")
    with pytest.raises(StoreBusy, match="came free in time"):
        await held.reads.do(7)
    assert figure("rejected_total") == rejected + 1
    assert figure("pool_waiting") == 0
    for answer in held.answers:
        answer.set_result(None)
    assert await asyncio.gather(*first) == [(key,) for key in range(LEADERS)]
    assert held.asked == [[key] for key in range(LEADERS)]


async def test_who_was_joined_waits_no_longer_than_it_may_and_fails_nobody_else() -> None:
    held = Held(seconds=0.5)
    await held.get(*range(LEADERS))
    leader, impatient = await held.get(7, 8)
    held.answers[0].set_result(None)
    await until(lambda: [7, 8] in held.asked)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await impatient
    rejected = figure("rejected_total")
    held.answers[-1].set_result(None)
    assert await leader == (7,)
    assert figure("rejected_total") == rejected


async def test_where_the_storage_is_closed_each_of_those_who_wait_is_told_so() -> None:
    held = Held(seconds=DEADLINE_SECONDS)
    first = await held.get(*range(LEADERS))
    others = await held.get(7, 8, 9)
    held.is_closed = True
    for answer in held.answers:
        answer.set_result(None)
    assert await asyncio.gather(*first) == [(key,) for key in range(LEADERS)]
    results = await asyncio.gather(*others, return_exceptions=True)
    assert [str(result) for result in results] == ["the storage is not open"] * 3


async def test_they_count_among_those_who_may_wait(postgres_url: str) -> None:
    async with opened(postgres_url, queue_size=4, **PATIENT) as store:
        note = await add(store)
        async with locked(postgres_url) as blocked:
            first = await leading(store, note, blocked)
            others = await waiting(store, [note] * 4)
            with pytest.raises(StoreBusy, match="4 requests wait"):
                await store.get(note)
            more = [asyncio.create_task(store.count()) for _ in range(5 - LEADERS)]  # each finds a connection
            await until(lambda: figure("pool_connections") == 5)
            with pytest.raises(StoreBusy, match="4 requests wait"):
                await store.count()
        await asyncio.gather(*first, *others, *more)


async def test_who_is_given_the_lead_keeps_its_place_however_many_came_meanwhile(postgres_url: str) -> None:
    async with opened(postgres_url, pool_size=1, queue_size=3, **PATIENT) as store:
        note = await add(store)
        async with locked(postgres_url):
            holding = asyncio.create_task(store.count())
            await asyncio.sleep(0)
            reads = await waiting(store, [note] * 3)  # the first leads, and waits for the connection
            reads[0].cancel()  # the second leads
            await asyncio.wait(reads[:1])
            late = asyncio.create_task(store.get(note))
            await until(lambda: figure("pool_waiting") == 3)
            with pytest.raises(StoreBusy):
                await store.get(note)
        assert await asyncio.gather(*reads[1:], late) == [TEXT] * 3
        await holding


async def test_each_is_told_how_long_it_waited(postgres_url: str) -> None:
    async with opened(postgres_url, **PATIENT) as store:
        note = await add(store)
        count, seconds = figure("pool_acquire_seconds_count"), figure("pool_acquire_seconds_sum")
        async with locked(postgres_url) as blocked:
            first = await leading(store, note, blocked)
            others = await waiting(store, [note] * 5)
            await asyncio.sleep(0.2)
        await asyncio.gather(*first, *others)
        assert figure("pool_acquire_seconds_count") == count + LEADERS + 5
        assert figure("pool_acquire_seconds_sum") - seconds >= 5 * 0.2


async def test_what_postgresql_refuses_is_refused_to_each(postgres_url: str, statements: Statements) -> None:
    async with opened(postgres_url, seconds=60, statement_seconds=60, lock_seconds=0.5) as store:
        note = await add(store)
        async with locked(postgres_url) as blocked:
            first = await leading(store, note, blocked)
            others = await waiting(store, [note] * 5)
            results = await asyncio.gather(*first, *others, return_exceptions=True)
            assert statements.keys == [1] * LEADERS + [5]
        assert {type(result) for result in results} == {StoreUnavailable}
        assert {"lock timeout" in str(result) for result in results} == {True}
        await nobody_is_left(store, note, statements)


async def test_what_nobody_foresaw_is_raised_to_each(postgres_url: str, statements: Statements) -> None:
    async with opened(postgres_url, **PATIENT) as store, connected(postgres_url) as other:
        note = await add(store)
        await other.execute("ALTER TABLE notes RENAME TO elsewhere")
        results = await asyncio.gather(*(store.get(note) for _ in range(10)), return_exceptions=True)
        assert {type(result) for result in results} == {asyncpg.UndefinedTableError}
        await other.execute("ALTER TABLE elsewhere RENAME TO notes")
        await nobody_is_left(store, note, statements)


async def test_a_connection_that_is_cut_under_a_statement_of_many_costs_nobody_its_answer(postgres_url: str) -> None:
    async with behind_proxy(postgres_url) as (store, proxy), asyncio.timeout(DEADLINE_SECONDS):
        note = await add(store)
        for _ in range(10):
            reads = [asyncio.create_task(store.get(note)) for _ in range(20)]
            await asyncio.sleep(0.002)
            proxy.cut()
            assert await asyncio.gather(*reads) == [TEXT] * 20


async def test_each_of_those_whose_connection_froze_tries_again_for_itself(
    postgres_url: str, statements: Statements
) -> None:
    async with behind_proxy(postgres_url, seconds=30, statement_seconds=0.2) as (store, proxy):
        note = await add(store)
        await asyncio.gather(*(store.get(note) for _ in range(10)))
        statements.keys.clear()
        proxy.freeze_open()
        assert await asyncio.gather(*(store.get(note) for _ in range(10))) == [TEXT] * 10
        await nobody_is_left(store, note, statements)


async def test_while_the_server_is_gone_each_is_told_so_and_when_it_is_back_nobody_is_left(
    postgres_url: str, statements: Statements
) -> None:
    async with behind_proxy(postgres_url, seconds=3) as (store, proxy):
        note = await add(store)
        proxy.before_response = lambda _: True
        results = await asyncio.gather(*(store.get(note) for _ in range(16)), return_exceptions=True)
        assert {type(result) for result in results} <= {StoreUnavailable, StoreBusy}
        assert StoreUnavailable in {type(result) for result in results}
        proxy.before_response = None
        await nobody_is_left(store, note, statements)


async def test_without_prepared_statements_it_is_the_same(postgres_url: str, statements: Statements) -> None:
    async with opened(postgres_url, prepared_statements=False) as store:
        note = await add(store)
        assert await asyncio.gather(*(store.get(note) for _ in range(20))) == [TEXT] * 20
    assert len(statements.keys) < 20


async def test_where_statements_are_traced_each_has_its_own(
    postgres_url: str, statements: Statements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Joined, "each_alone", True)
    async with opened(postgres_url) as store:
        note = await add(store)
        assert await asyncio.gather(*(store.get(note) for _ in range(20))) == [TEXT] * 20
    assert statements.keys == [1] * 20
