"""Many followers of one store: it is read once for all of them, and none misses a change."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence

import pytest
from making import NOW, a_task
from prometheus_client import REGISTRY
from stores import open_store

from task_api.store import ChangesPurged, OtherHistory, Store, StoreBusy, StoredChange, StoreUnavailable, Write
from task_api.store.memory import MemoryStore
from task_api.tasks import changes as changes_route
from task_api.tasks import feed
from task_api.tasks.changes import _decode_cursor, _encode_cursor
from task_api.tasks.changes import _events as changes_as_events
from task_api.tasks.feed import Feed

DEADLINE_SECONDS = 30
FOLLOWERS = 150


class Follower:
    """Reads a feed to its end."""

    def __init__(self, followed: Feed, after: str | None = None) -> None:
        self.titles: list[str] = []
        self.task = asyncio.create_task(self._follow(followed, after))

    async def _follow(self, followed: Feed, after: str | None) -> None:
        async for changes in followed.follow(after):
            self.titles += [change.task.title for change in changes]


async def always() -> bool:
    return True


async def add(store: Store, title: str) -> None:
    task = a_task(title=title)
    await store.commit([Write(task, "created")], now=task.updated_at)


async def received(followers: list[Follower], titles: list[str]) -> None:
    """Waits until each follower got exactly these."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while any(follower.titles != titles for follower in followers):
            assert not any(follower.task.done() for follower in followers)
            await asyncio.sleep(0.01)


async def ended(followers: list[Follower]) -> None:
    """Waits until the streams of all of them have ended."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.gather(*(follower.task for follower in followers))


async def take_turns() -> None:
    """Lets all other tasks run until they wait for time or for an event."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_more_followers_than_queue_slots_are_all_served(postgres_url: str) -> None:
    async with open_store(postgres_url, pool_size=1, queue_size=2) as store:
        followed = Feed(store)
        await add(store, "before")
        followers = [Follower(followed) for _ in range(FOLLOWERS)]
        await asyncio.sleep(0)  # all read concurrently
        for title in "abc":
            await add(store, title)
        await received(followers, ["before", *"abc"])
        await asyncio.sleep(0)
        followed.end()
        await ended(followers)


class Counting(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.error: Exception | None = None

    async def changes(self, after: str | None, *, size: int) -> list[StoredChange]:
        self.reads += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return await super().changes(after, size=size)


async def test_new_changes_are_read_once_for_all_followers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "POLL_SECONDS", 0.05)
    store = Counting()
    followed = Feed(store)
    followers = [Follower(followed) for _ in range(FOLLOWERS)]
    await add(store, "first")
    await received(followers, ["first"])
    start, before = asyncio.get_running_loop().time(), store.reads
    await add(store, "second")
    await received(followers, ["first", "second"])
    looks = (asyncio.get_running_loop().time() - start) / 0.05
    assert store.reads - before <= 2 * looks + 3
    followed.end()
    await ended(followers)


async def test_a_lagging_follower_catches_up_from_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "POLL_SECONDS", 0.01)
    store = MemoryStore()
    start = await store.last_cursor()
    followed = Feed(store)
    first = Follower(followed)
    titles = [str(n) for n in range(3 * feed.CHUNK)]
    for title in titles:
        await add(store, title)
        if title == titles[feed.CHUNK]:
            await received([first], titles[: feed.CHUNK + 1])
    await received([first, Follower(followed), Follower(followed, start)], titles)
    late = Follower(followed, (await store.changes(None, size=feed.CHUNK))[-1].cursor)
    await received([late], titles[feed.CHUNK :])
    followed.end()


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), RuntimeError("a defect")], ids=["lost", "defect"])
async def test_streams_end_when_the_storage_fails_and_resume_after_it_recovers(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "POLL_SECONDS", 0.01)
    store = Counting()
    followed = Feed(store)
    followers: list[Follower] = [Follower(followed) for _ in range(3)]
    await add(store, "first")
    await received(followers, ["first"])
    store.error = error
    await ended(followers)
    store.error = None
    again = Follower(followed, await store.last_cursor())
    await add(store, "second")
    await received([again], ["second"])
    followed.end()


async def test_streams_ahead_of_a_restored_storage_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feed, "POLL_SECONDS", 0.01)
    store = MemoryStore()
    followed = Feed(store)
    followers = [Follower(followed) for _ in range(3)]
    await add(store, "lost")
    await received(followers, ["lost"])
    vars(store).update(vars(MemoryStore()))
    await ended(followers)
    again = Follower(followed, await store.last_cursor())
    await add(store, "new")
    await received([again], ["new"])
    followed.end()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []  # a restore is no defect


async def test_a_busy_storage_does_not_end_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "POLL_SECONDS", 0.01)
    store = Counting()
    followed = Feed(store)
    store.error = StoreBusy("all wait")
    followers = [Follower(followed) for _ in range(3)]
    async with asyncio.timeout(DEADLINE_SECONDS):
        while store.reads < 20:
            await asyncio.sleep(0.01)
    store.error = None
    await add(store, "first")
    await received(followers, ["first"])
    followed.end()


async def test_a_busy_storage_is_read_again_only_after_the_poll_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "POLL_SECONDS", 3600.0)
    store = Counting()
    store.error = StoreBusy("all wait")
    followed = Feed(store)
    followers = [Follower(followed) for _ in range(3)]
    await take_turns()
    assert store.reads == 4  # once by each follower, once by the poller
    for follower in followers:
        follower.task.cancel()
    await asyncio.wait([follower.task for follower in followers])


async def test_without_followers_the_storage_is_not_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "POLL_SECONDS", 0)
    store = Counting()
    followed = Feed(store)
    followers = [Follower(followed) for _ in range(2)]
    await add(store, "first")
    await received(followers, ["first"])
    followers[0].task.cancel()
    await asyncio.wait([followers[0].task])
    await add(store, "second")  # the other one is still served
    await received(followers[1:], ["first", "second"])
    followers[1].task.cancel()
    await asyncio.wait([followers[1].task])
    reads = store.reads
    await take_turns()
    assert store.reads == reads


async def test_waiting_streams_end_with_the_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "HEARTBEAT_SECONDS", 3600.0)
    store = MemoryStore()
    followed = Feed(store)
    followers = [Follower(followed) for _ in range(3)]
    await add(store, "first")
    await received(followers, ["first"])
    followed.end()
    await ended(followers)


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), ChangesPurged(), OtherHistory()], ids=repr)
async def test_a_stream_that_cannot_catch_up_ends(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the poller, with another cursor or a moment later, can read."""
    monkeypatch.setattr(feed, "HEARTBEAT_SECONDS", 3600.0)

    class Failing(MemoryStore):
        async def changes(self, after: str | None, *, size: int) -> list[StoredChange]:
            if after is None:
                raise error
            return await super().changes(after, size=size)

    async with asyncio.timeout(DEADLINE_SECONDS):
        await Follower(Feed(Failing())).task


async def test_each_change_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "POLL_SECONDS", 0)
    found: list[str] = []

    class Found(MemoryStore):
        async def changes(self, after: str | None, *, size: int) -> list[StoredChange]:
            changes = await super().changes(after, size=size)
            found.extend(change.task.title for change in changes)
            return changes

    store = Found()
    followed = Feed(store)
    follower = Follower(followed, await store.last_cursor())
    await take_turns()
    await store.commit([Write(a_task(title=title), "created") for title in "abc"], now=NOW)
    await received([follower], [*"abc"])
    await take_turns()
    assert found == [*"abc"]
    followed.end()


class Stuck(Counting):
    """Reads of changes wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.lost = False

    async def changes(self, after: str | None, *, size: int) -> list[StoredChange]:
        changes = await super().changes(after, size=size)
        await self.go.wait()
        return changes

    async def last_cursor(self) -> str:
        if self.lost:
            raise StoreUnavailable("gone")
        return await super().last_cursor()


@pytest.mark.parametrize("lost", [True, False], ids=["storage-lost", "feed-ended"])
async def test_streams_that_wait_to_catch_up_end_without_a_read(lost: bool) -> None:
    """A hundred of them would each wait for the storage's timeout, one after the other."""
    store = Stuck()
    store.lost = lost
    followed = Feed(store)
    followers = [Follower(followed) for _ in range(3)]
    await take_turns()
    reads = store.reads
    if not lost:
        followed.end()
    store.go.set()
    await ended(followers)
    assert store.reads == reads


async def test_streams_that_wait_to_catch_up_read_after_new_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "POLL_SECONDS", 0)
    store = Stuck()
    followed = Feed(store)
    followers = [Follower(followed) for _ in range(3)]
    await take_turns()
    await add(store, "first")
    store.go.set()
    await received(followers, ["first"])
    followed.end()


def test_changes_after_a_recent_cursor_need_no_read() -> None:
    changes: Sequence[StoredChange] = [StoredChange(position, "created", a_task()) for position in "bc"]
    recent = feed.RecentChanges("a", changes)
    assert recent.changes_after("a") == changes
    assert recent.changes_after("b") == changes[1:]
    assert recent.changes_after("c") == []
    assert recent.changes_after("d") is None
    assert recent.changes_after(None) is None


@pytest.mark.parametrize("length", range(1, 5))
def test_a_token_of_any_length_is_decoded_to_its_cursor(length: int) -> None:
    cursor = "1" * length
    assert _decode_cursor(_encode_cursor(cursor)) == cursor


async def test_a_stream_sends_a_blank_line_only_after_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some clients take each blank line for the end of an event, even of one without data."""
    monkeypatch.setattr(feed, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(feed, "HEARTBEAT_SECONDS", 0.01)
    store = MemoryStore()
    await add(store, "first")
    followed, sent, heartbeats = Feed(store), "", 0
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for text in changes_as_events(await store.changes(None, size=1), followed, None, always):
            sent += text
            heartbeats += text.startswith(":")
            if heartbeats == 2 and sent.count("data:") == 1:
                await add(store, "second")
            if heartbeats >= 3 and sent.count("data:") == 2:
                break
    followed.end()
    blocks = sent.split("\n\n")
    assert ["\ndata: {" in block for block in blocks] == [True, True, False]
    assert blocks[0].startswith("retry: 2000\nid: ")


async def test_a_stream_ends_before_the_next_change_once_its_token_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(feed, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(changes_route, "RECHECK_SECONDS", 0)
    store, allowed = MemoryStore(), [True, True, False]
    await add(store, "first")
    followed, sent = Feed(store), ""

    async def still_allowed() -> bool:
        valid = allowed.pop(0)
        if not valid:
            await add(store, "second")
        return valid

    async with asyncio.timeout(DEADLINE_SECONDS):
        async for text in changes_as_events(await store.changes(None, size=1), followed, None, still_allowed):
            sent += text
    assert allowed == []
    assert sent.count("data:") == 1
    assert sent.endswith(": still there\n: still there\n")


async def test_a_token_is_checked_again_only_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "HEARTBEAT_SECONDS", 0.01)
    store = MemoryStore()
    followed, beats = Feed(store), 0

    async def still_allowed() -> bool:
        raise AssertionError("five seconds have not passed")

    async with asyncio.timeout(DEADLINE_SECONDS):
        async for _ in changes_as_events([], followed, None, still_allowed):
            beats += 1
            if beats == 4:
                break
    followed.end()


async def test_a_stream_sends_each_change_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "HEARTBEAT_SECONDS", 0.01)
    store = MemoryStore()
    for title in "ab":
        await add(store, title)
    followed, ids = Feed(store), []
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for text in changes_as_events(await store.changes(None, size=2), followed, None, always):
            if text.startswith(":"):  # a heartbeat: it has sent all changes
                break
            ids += [line for line in text.splitlines() if line.startswith("id: ")]
    followed.end()
    assert len(ids) == len(set(ids)) == 2


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), RuntimeError("a defect")], ids=["lost", "defect"])
async def test_the_lag_is_unknown_while_the_storage_fails(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feed, "MEASURE_SECONDS", 0)
    results: list[float | Exception] = []

    async def feed_lag() -> float:
        if isinstance(results[0], Exception):
            raise results[0]
        return results[0]

    async def measured(result: float | Exception) -> float | None:
        results[:] = [result]
        await take_turns()
        return REGISTRY.get_sample_value("task_api_change_feed_lag_seconds")

    store = MemoryStore()
    monkeypatch.setattr(store, "feed_lag", feed_lag)
    results.append(0.0)
    measuring = asyncio.create_task(feed.measure_lag(store))
    assert await measured(1.5) == 1.5
    unknown = await measured(error)
    assert unknown is not None
    assert math.isnan(unknown)
    # Only a defect needs a stack trace.
    assert any(record.exc_info for record in caplog.records) is isinstance(error, RuntimeError)
    assert await measured(2.5) == 2.5
    measuring.cancel()
