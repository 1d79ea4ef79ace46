"""Deadlines with a single timer behave like asyncio.timeout, which they replace."""

from __future__ import annotations

import asyncio

import pytest

from chassis.postgres.deadlines import TICK_SECONDS, Deadlines


def now() -> float:
    return asyncio.get_running_loop().time()


async def forever() -> None:
    await asyncio.Event().wait()


async def test_work_that_completes_in_time_returns_its_result() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 42

    assert await Deadlines().enforce(now() + 60, work()) == 42


async def test_work_that_exceeds_its_deadline_is_cancelled() -> None:
    deadline = now() + 0.1
    with pytest.raises(TimeoutError):
        await Deadlines().enforce(deadline, forever())
    assert now() >= deadline
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0  # the next await in this task is not cancelled by it


async def test_each_piece_of_work_has_its_own_deadline() -> None:
    deadlines = Deadlines()
    work = asyncio.create_task(deadlines.enforce(now() + 3600, forever()))
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await deadlines.enforce(now(), forever())
    assert not work.done()
    work.cancel()


async def test_exceptions_of_the_work_propagate() -> None:
    async def work() -> None:
        raise ValueError("it")

    with pytest.raises(ValueError, match="it"):
        await Deadlines().enforce(now() + 60, work())


async def test_external_cancellation_propagates() -> None:
    task = asyncio.create_task(Deadlines().enforce(now() + 60, forever()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancellation_at_the_deadline_is_not_a_timeout() -> None:
    async def late() -> None:
        try:
            await forever()
        finally:
            inner = asyncio.current_task()
            assert inner is not None
            inner.cancel()

    task = asyncio.create_task(Deadlines().enforce(now(), late()))
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_that_suppresses_cancellation_may_finish_after_its_deadline() -> None:
    async def stubborn() -> int:
        try:
            await forever()
        except asyncio.CancelledError:
            return 42
        return 0

    assert await Deadlines().enforce(now(), stubborn()) == 42
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_deadlines_are_enforced_after_an_idle_period() -> None:
    deadlines = Deadlines()
    await deadlines.enforce(now() + 60, asyncio.sleep(0))
    await asyncio.sleep(TICK_SECONDS * 3)
    with pytest.raises(TimeoutError):
        await deadlines.enforce(now(), forever())


async def test_a_deadline_has_passed_at_its_exact_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 1000.0)
    task = asyncio.create_task(Deadlines().enforce(1000.0, forever()))
    await asyncio.wait([task], timeout=60)
    assert task.done()
    with pytest.raises(TimeoutError):
        await task


async def test_a_deadline_ends_with_its_operation() -> None:
    await Deadlines().enforce(now() + TICK_SECONDS, asyncio.sleep(0))
    await asyncio.sleep(3 * TICK_SECONDS)  # which the deadline must not cancel
