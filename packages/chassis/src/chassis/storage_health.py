"""Health check of the storage, and the number of items in it, for /health."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from chassis.check import Check
from chassis.storage import StoreBusy, StoreUnavailable

COUNT_SECONDS = 5.0
"""Interval at which items are counted, independent of requests."""
PING_SECONDS = 1.0
"""How long the result of a ping is reused: /health is public."""

OK = Check(status="ok")

log = logging.getLogger(__name__)


class Storage(Protocol):
    """The part of a store that its health check uses. Both methods raise StoreUnavailable."""

    async def ping(self) -> None: ...

    async def count(self) -> int: ...


class StorageHealth:
    """Health of a service with one storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._total: int | None = None
        self._count_check = OK
        self._ping: asyncio.Task[Check] | None = None
        self._pinged_at = 0.0

    async def start(self) -> None:
        """Called by Service.open after the storage is open: counts, so that the first request gets a total."""
        self._ping = None  # an earlier ping found the storage not open
        await self._count()

    async def count_periodically(self) -> None:
        """Counts every COUNT_SECONDS until it is cancelled; for Service.background."""
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            await self._count()

    async def check_health(self) -> tuple[int | None, dict[str, Check]]:
        """Implements Service.check_health: the last count, and the check of the storage. A failed check never raises.

        The count is None if the check fails.
        """
        now = time.monotonic()
        if self._ping is None or (self._ping.done() and now - self._pinged_at >= PING_SECONDS):
            self._pinged_at = now
            self._ping = asyncio.create_task(_probe(self._storage.ping))
        ping = await asyncio.shield(self._ping)  # a client that disconnects does not cancel it for the others
        storage = self._count_check if ping == OK else ping
        return None if storage.status == "failed" else self._total, {"storage": storage}

    async def _count(self) -> None:
        total: int | None = None

        async def count() -> None:
            nonlocal total
            total = await self._storage.count()

        self._count_check = await _probe(count)
        self._total = total


async def _probe(operation: Callable[[], Awaitable[None]]) -> Check:
    """Runs the operation and returns its outcome as a check; errors are not raised."""
    try:
        await operation()
    except StoreBusy as error:  # it serves other requests
        return Check(status="ok", detail=str(error))
    except StoreUnavailable as error:
        return Check(status="failed", detail=str(error))
    except Exception:  # a missing table or privilege, or a bug
        log.exception("Unexpected storage error")
        return Check(status="failed", detail="unexpected storage error; see the server log")
    return OK
