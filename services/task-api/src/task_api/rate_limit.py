"""How many requests a caller may send in a time, where TASKS_RATE_LIMIT says so. Counted by each process alone."""

from __future__ import annotations

import math
import time

from fastapi import Request
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from task_api.problems import Problem


class RateLimit:
    """`rate` as in "100/minute"; several with `;` between are not taken. Raises ValueError for another form."""

    def __init__(self, rate: str) -> None:
        self._rate: RateLimitItem = parse(rate)
        self._counter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def take(self, request: Request, caller: str) -> None:
        """Counts a request of `caller` and leaves the headers of its answer: draft-ietf-httpapi-ratelimit-headers.

        Raises Problem 429 with Retry-After where it is one too many.
        """
        within = await self._counter.hit(self._rate, caller)
        reset, remaining = await self._counter.get_window_stats(self._rate, caller)
        seconds = max(1, math.ceil(reset - time.time()))
        request.state.rate_limit_headers = [
            (b"ratelimit-policy", f'"default";q={self._rate.amount};w={self._rate.get_expiry()}'.encode()),
            (b"ratelimit", f'"default";r={remaining};t={seconds}'.encode()),
        ]
        if not within:
            detail = f"More than {self._rate.amount} requests in {self._rate.get_expiry()} s. Come back in {seconds} s."
            raise Problem(429, detail, type="rate-limited", headers={"Retry-After": str(seconds)})
