"""The change feed as a stream: one look-out per process, however many follow."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from prometheus_client import Gauge

from task_api.store import ChangesPurged, OtherHistory, Store, StoreBusy, StoredChange, StoreUnavailable

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""How often the storage is asked for news while anybody follows. PostgreSQL's NOTIFY would be quicker, but it
takes a lock that all committing writers share (https://www.recall.ai/blog/postgres-listen-notify-does-not-scale)."""

HEARTBEAT_SECONDS = 15.0
"""Proxies end connections on which nothing is sent for a minute."""

CHUNK = 25
"""Each of who follow may have one that it does not read: with tasks as large as they can be that is 1 MiB."""

MEASURE_SECONDS = 5.0

lag_seconds = Gauge(
    "task_api_change_feed_lag_seconds", "Age of the oldest change that readers of the feed cannot see yet"
)


async def keep_measuring(store: Store) -> None:
    """Measures how far the feed is behind, until it is cancelled."""
    while True:
        try:
            lag_seconds.set(await store.feed_lag())
        except StoreUnavailable:
            lag_seconds.set(float("nan"))  # nobody knows
        except Exception:
            log.exception("The lag of the feed was not measured, the next try is in %g s", MEASURE_SECONDS)
            lag_seconds.set(float("nan"))
        await asyncio.sleep(MEASURE_SECONDS)


@dataclass(frozen=True)
class Recent:
    """What the look-out read last: the changes that came after a position, if any."""

    after: str
    changes: Sequence[StoredChange]

    def following(self, position: str | None) -> Sequence[StoredChange] | None:
        """Those that come after the position; None where it is not one of these, and the storage has to be asked."""
        positions = [self.after, *(change.position for change in self.changes)]
        return self.changes[positions.index(position) :] if position in positions else None


class Feed:
    """Follows the changes of one store. What is new is read once, by the look-out, for all who follow."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._news = asyncio.Event()
        self._recent: Recent | None = None
        # Those who are behind read one at a time: a hundred at once take one connection, and requests the rest.
        self._turn = asyncio.Lock()
        self._lost = False
        self._followers = 0
        self._look_out: asyncio.Task[None] | None = None
        self._ended = False

    def end(self) -> None:
        """Ends all streams, so that the server can stop: a stream would never end by itself."""
        self._ended = True
        self._news.set()

    async def follow(self, after: str | None) -> AsyncIterator[Sequence[StoredChange]]:
        """The changes after a position, as they come; an empty list now and then, as a sign of life.

        Ends when the feed ends, and when the storage is lost: the client comes back and goes on from where it was,
        or is told why it cannot.
        """
        async with self._looking_out():
            while not self._ended:
                news = self._news  # taken before looking: what comes after the look sets it
                changes = None if self._recent is None else self._recent.following(after)
                if changes is None:  # it is behind
                    try:
                        async with self._turn:
                            if self._ended or (self._lost and news.is_set()):  # while it waited
                                return
                            changes = await self._store.changes(after, size=CHUNK)
                    except StoreBusy:
                        await asyncio.sleep(LOOK_SECONDS)
                        continue
                    except StoreUnavailable as error:
                        log.warning("A stream of changes ends: %s", error)
                        return
                    except (ChangesPurged, OtherHistory) as error:
                        log.info("A stream of changes ends, for its reader has to begin again: %r", error)
                        return
                if changes:
                    after = changes[-1].position
                    yield changes
                    continue
                try:
                    await asyncio.wait_for(news.wait(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield []
                else:
                    if self._lost:
                        return

    @contextlib.asynccontextmanager
    async def _looking_out(self) -> AsyncIterator[None]:
        self._followers += 1
        if self._look_out is None:
            self._look_out = asyncio.create_task(self._look())
        try:
            yield
        finally:
            self._followers -= 1
            if self._followers == 0 and self._look_out is not None:
                self._look_out.cancel()
                self._look_out = self._recent = None

    async def _look(self) -> None:
        while not self._ended:
            try:
                await self._look_once()
            except StoreBusy:
                pass  # it answers others; the next look finds what this one did not
            except StoreUnavailable as error:
                log.warning("All streams of changes end: %s", error)
                self._tell(None)
            except Exception:
                log.exception("All streams of changes end")
                self._tell(None)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look_once(self) -> None:
        """Reads all that is new."""
        if self._recent is None:
            # Whoever looked before and is not there yet has to look again.
            self._tell(Recent(await self._store.last_position(), []))
        while self._recent is not None:
            after = self._recent.changes[-1].position if self._recent.changes else self._recent.after
            try:
                changes = await self._store.changes(after, size=CHUNK)
            except (ChangesPurged, OtherHistory):  # nothing happened for as long as changes are kept; a restore
                self._recent = None
                return
            if not changes:
                return
            self._tell(Recent(after, changes))

    def _tell(self, recent: Recent | None) -> None:
        """Wakes all who follow. recent: None where the storage is lost."""
        self._recent = recent
        self._lost = recent is None
        news, self._news = self._news, asyncio.Event()
        if self._ended:
            self._news.set()
        news.set()
