"""Rate limiting per caller, if the setting `rate_limit` is set. Each process counts separately."""

from __future__ import annotations

import math
import time
from collections import OrderedDict

from fastapi import Request

from chassis.problems import Problem

WINDOWS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}

MAX_CALLERS = 20_000
"""Maximum number of tracked callers, about 4 MB. An evicted caller starts with a full quota."""


class RateLimit:
    """`rate` as in "100/minute": a burst of that many, then one for each share of the window that has passed.

    This is the generic cell rate algorithm (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm): one number per
    caller, the theoretical arrival time (TAT), at which its full quota is available again. Not the package `limits`:
    its in-memory storage iterates over all callers on every request, 4.7 ms with 20,000 of them, and is unbounded.
    """

    def __init__(self, rate: str) -> None:
        amount, _, window = rate.partition("/")
        self._amount = int(amount)
        self._window = WINDOWS[window]
        self._tat: OrderedDict[str, float] = OrderedDict()  # the most recently admitted caller is last

    def tracked_callers(self) -> int:
        """The number of callers in memory, whose TAT is in the future or has just passed; at most MAX_CALLERS."""
        return len(self._tat)

    async def acquire(self, request: Request, caller: str) -> None:
        """Counts a request of `caller`, and sets its response headers (draft-ietf-httpapi-ratelimit-headers).

        Raises Problem 429 with Retry-After if the limit is exceeded.
        """
        now = time.monotonic()
        share = self._window / self._amount
        tat = max(now, self._tat.get(caller, now)) + share
        wait = tat - now - self._window
        allowed = wait <= share / 1000  # tolerance for rounding errors
        if allowed:
            self._tat[caller] = tat
            self._tat.move_to_end(caller)
            self._evict(now)
        else:
            tat -= share
        remaining = int((self._window - (tat - now)) / share + 0.001)
        seconds = max(1, math.ceil(tat - now))
        request.state.rate_limit_headers = [
            (b"ratelimit-policy", f'"default";q={self._amount};w={self._window}'.encode()),
            (b"ratelimit", f'"default";r={remaining};t={seconds}'.encode()),
        ]
        if not allowed:
            seconds = max(1, math.ceil(wait))
            detail = f"Rate limit exceeded: {self._amount} requests in {self._window} s. Retry in {seconds} s."
            raise Problem(429, detail, type="rate-limited", headers={"Retry-After": str(seconds)})

    def _evict(self, now: float) -> None:
        """Removes up to two callers for each request, which adds at most one: so inactive callers are removed soon."""
        for _ in range(2):
            caller, tat = next(iter(self._tat.items()))
            if tat > now and len(self._tat) <= MAX_CALLERS:
                break
            del self._tat[caller]
