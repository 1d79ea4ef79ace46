"""How many requests a caller may send in any time, and who is remembered for it."""

from __future__ import annotations

import time

import pytest
from starlette.requests import Request

from chassis.problems import Problem
from chassis.rate_limit import MAX_CALLERS, RateLimit


async def _take(limit: RateLimit, caller: str) -> Request:
    request = Request({"type": "http", "state": {}})
    await limit.take(request, caller)
    return request


async def test_a_rate_is_that_of_any_time_not_of_the_clocks_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limit = RateLimit("6/minute")
    for _ in range(6):
        await _take(limit, "ann")
    with pytest.raises(Problem) as refused:
        await _take(limit, "ann")
    assert refused.value.headers == {"Retry-After": "10"}
    now += 10  # as it was told
    await _take(limit, "ann")
    with pytest.raises(Problem):
        await _take(limit, "ann")
    now += 60
    for _ in range(6):
        await _take(limit, "ann")


async def test_callers_who_stay_away_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limit = RateLimit("10/second")
    for n in range(1000):
        await _take(limit, f"address {n}")
    now += 1
    for _ in range(600):
        now += 1
        await _take(limit, "ann")
    assert limit.remembered() == 1


async def test_a_flood_of_callers_does_not_fill_the_memory() -> None:
    limit = RateLimit("2/day")
    await _take(limit, "ann")
    for n in range(MAX_CALLERS + 500):
        if n == MAX_CALLERS // 2:
            await _take(limit, "ann")
        await _take(limit, f"address {n}")
    assert limit.remembered() == MAX_CALLERS
    with pytest.raises(Problem):  # whoever was here last is remembered longest
        await _take(limit, "ann")
