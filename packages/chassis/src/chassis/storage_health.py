"""Whether the storage answers, and how much it holds, for /health."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from chassis.check import Check
from chassis.storage import StoreBusy, StoreUnavailable

COUNT_SECONDS = 5.0
"""How often things are counted, whoever asks for their number."""
PING_SECONDS = 1.0
"""How long an answer of the storage is taken for the next one: /health is open to everybody."""

OK = Check(status="ok")

log = logging.getLogger(__name__)


class Storage(Protocol):
    """A store, as far as its health goes. Both raise StoreUnavailable."""

    async def ping(self) -> None: ...

    async def count(self) -> int: ...


class StorageHealth:
    """That of the one storage of a service."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._total: int | None = None
        self._counted = OK
        self._ping: asyncio.Task[Check] | None = None
        self._pinged_at = 0.0

    async def opened(self) -> None:
        """To be called by Service.open, once the storage is open: counts, so that the first request is told."""
        self._ping = None  # asked before, it has said that it is not open
        await self._count()

    async def keep_counting(self) -> None:
        """Counts every COUNT_SECONDS. Never ends: it is for Service.background."""
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            await self._count()

    async def condition(self) -> tuple[int | None, dict[str, Check]]:
        """What Service.condition returns: the last count, and whether the storage answers. Never raises because of it.

        The count is None where the storage does not answer.
        """
        now = time.monotonic()
        if self._ping is None or (self._ping.done() and now - self._pinged_at >= PING_SECONDS):
            self._pinged_at = now
            self._ping = asyncio.create_task(_tried(self._storage.ping))
        answers = await asyncio.shield(self._ping)  # who asks and goes away does not end it for the others
        storage = self._counted if answers == OK else answers
        return None if storage.status == "failed" else self._total, {"storage": storage}

    async def _count(self) -> None:
        total: int | None = None

        async def count() -> None:
            nonlocal total
            total = await self._storage.count()

        self._counted = await _tried(count)
        self._total = total


async def _tried(work: Callable[[], Awaitable[None]]) -> Check:
    """Whether the storage does it; never raises because of what is wrong with it."""
    try:
        await work()
    except StoreBusy as error:  # it answers others
        return Check(status="ok", detail=str(error))
    except StoreUnavailable as error:
        return Check(status="failed", detail=str(error))
    except Exception:  # a table or a right that is missing, or a defect of ours
        log.exception("The storage fails in a way that nobody foresaw")
        return Check(status="failed", detail="the storage fails in a way that nobody foresaw; the log has it")
    return OK
