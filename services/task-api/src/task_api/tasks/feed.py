"""The change feed as a stream: one poller per process, however many followers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass

from prometheus_client import Gauge

from task_api.store import ChangesPurged, OtherHistory, Store, StoreBusy, StoredChange, StoreUnavailable

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""How often the storage is polled while there are followers. PostgreSQL's NOTIFY would be faster, but it takes a lock
that all committing writers share (https://www.recall.ai/blog/postgres-listen-notify-does-not-scale)."""

HEARTBEAT_SECONDS = 15.0
"""Proxies close connections that are idle for a minute."""

CHUNK = 25
"""Maximum number of changes buffered for a follower that does not read: 1 MiB with tasks of the maximum size."""

MEASURE_SECONDS = 5.0

lag_seconds = Gauge(
    "task_api_change_feed_lag_seconds", "Age of the oldest change that readers of the feed cannot see yet"
)


async def measure_lag(store: Store) -> None:
    """Measures the lag of the feed until cancelled."""
    while True:
        try:
            lag_seconds.set(await store.feed_lag())
        except StoreUnavailable:
            lag_seconds.set(float("nan"))  # unknown
        except Exception:
            log.exception("Measuring the feed lag failed, next attempt in %g s", MEASURE_SECONDS)
            lag_seconds.set(float("nan"))
        await asyncio.sleep(MEASURE_SECONDS)


@dataclass(frozen=True)
class RecentChanges:
    """The changes that the poller read last, if any, and the cursor before them."""

    after: str
    changes: Sequence[StoredChange]

    def changes_after(self, cursor: str | None) -> Sequence[StoredChange] | None:
        """The changes after the cursor; None if it is not among these, and the storage has to be read."""
        cursors = [self.after, *(change.cursor for change in self.changes)]
        return self.changes[cursors.index(cursor) :] if cursor in cursors else None


class Feed:
    """Follows the changes of one store. The poller reads new changes once, for all followers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._new_changes = asyncio.Event()
        self._recent: RecentChanges | None = None
        # Followers that lag read one at a time: a hundred of them use one connection, and leave the rest to requests.
        self._catch_up_lock = asyncio.Lock()
        self._storage_lost = False
        self._followers = 0
        self._poller: asyncio.Task[None] | None = None
        self._ended = False

    def end(self) -> None:
        """Ends all streams, so that the server can stop: streams do not end on their own."""
        self._ended = True
        self._new_changes.set()

    async def follow(self, after: str | None) -> AsyncGenerator[Sequence[StoredChange]]:
        """Yields the changes after a cursor as they happen, and an empty list as a heartbeat.

        Ends when the feed ends, and when the storage is unavailable: the client reconnects and resumes, or gets an
        error that says why it cannot.
        """
        async with self._following():
            while not self._ended:
                new_changes = self._new_changes  # taken before reading: changes published after that set it
                changes = None if self._recent is None else self._recent.changes_after(after)
                if changes is None:  # this follower lags
                    try:
                        async with self._catch_up_lock:
                            if self._ended or (self._storage_lost and new_changes.is_set()):  # while waiting
                                return
                            changes = await self._store.changes(after, size=CHUNK)
                    except StoreBusy:
                        await asyncio.sleep(POLL_SECONDS)
                        continue
                    except StoreUnavailable as error:
                        log.warning("Change stream closed: %s", error)
                        return
                    except (ChangesPurged, OtherHistory) as error:
                        log.info("Change stream closed, the client has to start over with a list: %r", error)
                        return
                if changes:
                    after = changes[-1].cursor
                    yield changes
                    continue
                try:
                    await asyncio.wait_for(new_changes.wait(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield []
                else:
                    if self._storage_lost:
                        return

    @contextlib.asynccontextmanager
    async def _following(self) -> AsyncIterator[None]:
        self._followers += 1
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll())
        try:
            yield
        finally:
            self._followers -= 1
            if self._followers == 0 and self._poller is not None:
                self._poller.cancel()
                self._poller = self._recent = None

    async def _poll(self) -> None:
        while not self._ended:
            try:
                await self._poll_once()
            except StoreBusy:
                pass  # the storage is up; the next poll reads what this one did not
            except StoreUnavailable as error:
                log.warning("All change streams closed: %s", error)
                self._publish(None)
            except Exception:
                log.exception("All change streams closed")
                self._publish(None)
            await asyncio.sleep(POLL_SECONDS)

    async def _poll_once(self) -> None:
        """Reads all new changes."""
        if self._recent is None:
            # Followers that read before this and are not at this cursor have to read again.
            self._publish(RecentChanges(await self._store.last_cursor(), []))
        while self._recent is not None:
            after = self._recent.changes[-1].cursor if self._recent.changes else self._recent.after
            try:
                changes = await self._store.changes(after, size=CHUNK)
            except (ChangesPurged, OtherHistory):  # no change for the whole retention period; a restore
                self._recent = None
                return
            if not changes:
                return
            self._publish(RecentChanges(after, changes))

    def _publish(self, recent: RecentChanges | None) -> None:
        """Wakes all followers. recent: None if the storage is unavailable."""
        self._recent = recent
        self._storage_lost = recent is None
        previous, self._new_changes = self._new_changes, asyncio.Event()
        previous.set()
