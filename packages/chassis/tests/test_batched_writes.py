"""Batches of writes: each is executed once, or settled after a statement whose outcome is unknown, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from notes.store import metrics
from prometheus_client import REGISTRY

from chassis.postgres.batching import Batcher, SplitBatch
from chassis.postgres.wait_limit import WaitLimit
from chassis.storage import StoreBusy, StoreUnavailable

DEADLINE_SECONDS = 10


class FakeDatabase:
    """The test decides when and how each statement ends. After a lost connection it settles, as the real one does."""

    def __init__(self, seconds: float = DEADLINE_SECONDS, max_waiting: int = 10) -> None:
        self.writes: Batcher[int, str] = Batcher(
            self._run,
            WaitLimit(max_waiting, metrics),
            seconds=seconds,
            execute_one=self._execute_one,
            execute_many=self._execute_many,
            settle=self._settle,
        )
        self.log: list[str] = []
        """The items of each statement, and what is settled."""
        self.outcomes: list[asyncio.Future[None]] = []
        self.waited: list[float] = []
        """How many seconds each call of `_run` is said to have waited."""

    async def _run(
        self, work: Callable[[Any], Any], settle: Any, *, settle_first: bool, waited: float, on_failed_attempt: Any
    ) -> Any:
        self.waited.append(waited)
        if not settle_first:
            try:
                return await work(self)
            except asyncpg.DeadlockDetectedError:
                on_failed_attempt()
                return await work(self)
            except ConnectionResetError:
                on_failed_attempt()
        try:
            return await settle(self)
        except ConnectionResetError:
            on_failed_attempt()
            return await settle(self)

    async def _execute_one(self, _: Any, item: int) -> str:
        return (await self._execute_many(None, [item]))[0]

    async def _execute_many(self, _: Any, items: list[int]) -> list[str]:
        await self._statement(" ".join(map(str, items)))
        return [f"wrote {item}" for item in items]

    async def _settle(self, _: Any, item: int) -> str:
        await self._statement(f"settle {item}")
        return f"settled {item}"

    async def _statement(self, text: str) -> None:
        self.log.append(text)
        self.outcomes.append(asyncio.get_running_loop().create_future())
        await self.outcomes[-1]

    async def write(self, *items: int) -> list[asyncio.Task[str]]:
        """A write per item, each started and now waiting."""
        writes = [asyncio.create_task(self.writes.submit(item)) for item in items]
        await asyncio.sleep(0)
        return writes

    async def end(self, statement: str, error: BaseException | None = None) -> None:
        """Ends this statement, once it was sent."""
        await until(lambda: statement in self.log)
        outcome = self.outcomes[self.log.index(statement)]
        if error is None:
            outcome.set_result(None)
        else:
            outcome.set_exception(error)

    async def batch_of_three(self) -> list[asyncio.Task[str]]:
        """The writes of items 2, 3 and 4, which share a statement in flight."""
        first = await self.write(1)
        batch = await self.write(2, 3, 4)
        await self.end("1")
        assert await asyncio.gather(*first) == ["wrote 1"]
        await until(lambda: self.log == ["1", "2 3 4"])
        return batch

    async def assert_idle(self) -> None:
        """The next writes behave like the first ones."""
        assert waiting() == 0
        self.log.clear()
        self.outcomes.clear()
        batch = await self.batch_of_three()
        await self.end("2 3 4")
        assert await asyncio.gather(*batch) == ["wrote 2", "wrote 3", "wrote 4"]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


def waiting() -> float | None:
    return REGISTRY.get_sample_value("notes_db_pool_waiting")


def rejected() -> float | None:
    return REGISTRY.get_sample_value("notes_db_rejected_total")


async def test_after_a_lost_statement_its_writes_are_settled_one_by_one_before_later_ones() -> None:
    database = FakeDatabase()
    batch = await database.batch_of_three()
    later = await database.write(5)
    await database.end("2 3 4", ConnectionResetError())
    await until(lambda: database.log[2:] == ["settle 2", "settle 3"])  # the leader retries, and has handed over
    assert waiting() == 2
    await database.end("settle 2")
    assert await batch[0] == "settled 2"
    await database.end("settle 3")
    await database.end("settle 4")
    await database.end("5")
    assert await asyncio.gather(*batch, *later) == ["settled 2", "settled 3", "settled 4", "wrote 5"]
    assert database.log[2:] == ["settle 2", "settle 3", "settle 4", "5"]
    assert database.waited[0] == 0  # the first one led at once
    assert all(0 < seconds < DEADLINE_SECONDS for seconds in database.waited[1:])
    await database.assert_idle()


async def test_a_second_failure_while_settling_changes_nothing_for_the_others() -> None:
    database = FakeDatabase()
    batch = await database.batch_of_three()
    later = await database.write(5)
    await database.end("2 3 4", ConnectionResetError())
    await until(lambda: database.log[2:] == ["settle 2", "settle 3"])
    await database.end("settle 2", ConnectionResetError())
    await until(lambda: database.log[4:] == ["settle 2"])
    assert waiting() == 2
    database.outcomes[4].set_result(None)
    assert await batch[0] == "settled 2"
    for statement in ("settle 3", "settle 4", "5"):
        await database.end(statement)
    assert await asyncio.gather(*batch, *later) == ["settled 2", "settled 3", "settled 4", "wrote 5"]
    await database.assert_idle()


async def test_the_leader_of_a_deadlocked_batch_retries_its_own_write_only() -> None:
    database = FakeDatabase()
    batch = await database.batch_of_three()
    later = await database.write(5)
    await database.end("2 3 4", asyncpg.DeadlockDetectedError("a deadlock"))
    await until(lambda: database.log[2:] == ["2", "settle 3"])
    for statement in ("2", "settle 3", "settle 4", "5"):
        await database.end(statement)
    assert await asyncio.gather(*batch, *later) == ["wrote 2", "settled 3", "settled 4", "wrote 5"]
    await database.assert_idle()


async def test_writes_in_doubt_count_towards_the_queue_limit() -> None:
    database = FakeDatabase(max_waiting=2)
    first = await database.write(1)
    batch = await database.write(2, 3)
    await database.end("1")
    await until(lambda: database.log[1:] == ["2 3"])
    await database.end("2 3", ConnectionResetError())
    await until(lambda: database.log[2:] == ["settle 2", "settle 3"])
    others = await database.write(4, 5)
    with pytest.raises(StoreBusy, match="2 requests are already waiting"):
        await database.writes.submit(6)
    for statement in ("settle 2", "settle 3", "4 5"):
        await database.end(statement)
    assert await asyncio.gather(*first, *batch, *others) == [
        *("wrote 1", "settled 2", "settled 3", "wrote 4", "wrote 5")
    ]


@pytest.mark.parametrize("error", [SplitBatch(), asyncpg.UniqueViolationError("taken")], ids=["split", "rejected"])
async def test_writes_of_a_rejected_batch_are_executed_separately(error: Exception) -> None:
    database = FakeDatabase()
    batch = await database.batch_of_three()
    await database.end("2 3 4", error)
    await until(lambda: database.log[2:] == ["2", "3", "4"])
    await database.end("2")
    await database.end("4")
    await database.end("3", asyncpg.UniqueViolationError("taken"))
    outcomes = await asyncio.gather(*batch, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["wrote 2", "taken", "wrote 4"]
    await database.assert_idle()


@pytest.mark.parametrize("cause", ["cancelled", "unexpected"])
async def test_if_the_leader_ends_without_an_outcome_the_others_are_settled(cause: str) -> None:
    database = FakeDatabase()
    leader, *others = await database.batch_of_three()
    if cause == "cancelled":
        leader.cancel()
    else:
        await database.end("2 3 4", ZeroDivisionError())
    await database.end("settle 3")
    await database.end("settle 4")
    assert await asyncio.gather(*others) == ["settled 3", "settled 4"]
    with pytest.raises((asyncio.CancelledError, ZeroDivisionError)):
        await leader
    assert database.log[2:] == ["settle 3", "settle 4"]
    await database.assert_idle()


async def test_a_cancelled_write_in_doubt_delays_no_other() -> None:
    database = FakeDatabase()
    batch = await database.batch_of_three()
    later = await database.write(5)
    await database.end("2 3 4", ConnectionResetError())
    await until(lambda: "settle 3" in database.log)
    batch[2].cancel()
    await asyncio.wait(batch[2:])
    assert batch[2].cancelled()
    assert waiting() == 1
    for statement in ("settle 2", "settle 3", "5"):
        await database.end(statement)
    assert await asyncio.gather(*batch[:2], *later) == ["settled 2", "settled 3", "wrote 5"]
    await database.assert_idle()


async def test_a_write_in_doubt_that_waits_too_long_fails_with_an_unknown_outcome() -> None:
    database = FakeDatabase(seconds=0.2)
    batch = await database.batch_of_three()
    before = rejected()
    await database.end("2 3 4", ConnectionResetError())
    await until(lambda: "settle 3" in database.log)
    with pytest.raises(StoreUnavailable, match="is not responding"):
        await batch[2]
    assert rejected() == before
    for statement in ("settle 2", "settle 3"):
        await database.end(statement)
    assert await asyncio.gather(*batch[:2]) == ["settled 2", "settled 3"]
    assert waiting() == 0


async def test_a_write_that_is_to_settle_when_it_is_cancelled_hands_over() -> None:
    database = FakeDatabase()
    batch = await database.batch_of_three()
    await database.end("2 3 4", ConnectionResetError())
    while "settle 2" not in database.log:  # by now the next one was told to settle, and has not run yet
        await asyncio.sleep(0)
    batch[1].cancel()
    for statement in ("settle 2", "settle 4"):
        await database.end(statement)
    assert [await batch[0], await batch[2]] == ["settled 2", "settled 4"]
    assert database.log[2:] == ["settle 2", "settle 4"]
    await database.assert_idle()
