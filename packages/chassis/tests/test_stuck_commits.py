"""While the standby is down, commits get stuck, but no more than the size of a pod's pool.

The rules first, with a fake connection and a fake clock; then a pair of servers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from databases import connected
from expositions import PROMETHEUS_3, read
from notes.store import metrics
from programs import DEADLINE_SECONDS
from prometheus_client import REGISTRY
from replicated import Replicated, replicated
from running import NOTES

from chassis.postgres.stuck_commits import StuckCommits
from chassis.storage import StoreBusy

LIMIT = 2
SECONDS = 5.0
"""The age from which a commit counts as stuck, in the tests with a fake clock."""


class FakeServer:
    """The clock, a connection that answers how many commits are stuck, and what it was asked."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.stuck = 0
        self.ages: list[float] = []

    async def fetchval(self, _query: str, seconds: float) -> int:
        self.ages.append(seconds)
        return self.stuck


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    server = FakeServer()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: server.now)
    return server


@pytest.fixture
def commits() -> StuckCommits:
    return StuckCommits(limit=LIMIT, seconds=SECONDS, metrics=metrics)


async def commit(_db: object) -> str:
    return "committed"


async def write(commits: StuckCommits, server: Any) -> str:
    return await commits.write(commit, server)


async def counts_of(commits: StuckCommits, server: FakeServer) -> int:
    """How often a write counts the stuck commits."""
    before = len(server.ages)
    assert await write(commits, server) == "committed"
    return len(server.ages) - before


async def test_usually_a_write_costs_no_count(commits: StuckCommits, server: FakeServer) -> None:
    server.now = 0.0  # a clock may start at any time
    assert await counts_of(commits, server) == 0


async def test_after_an_abandoned_connection_commits_are_counted_every_second_until_it_would_count(
    commits: StuckCommits, server: FakeServer
) -> None:
    commits.connection_abandoned()
    assert await counts_of(commits, server) == 1
    assert server.ages == [SECONDS]
    server.now += 0.75
    assert await counts_of(commits, server) == 0
    server.now += 0.25
    assert await counts_of(commits, server) == 1
    server.now += SECONDS - 0.25
    assert await counts_of(commits, server) == 1  # now the abandoned one is old enough
    server.now += 0.25
    assert await counts_of(commits, server) == 0
    server.now += 10.0
    assert await counts_of(commits, server) == 0


async def test_counting_ends_a_second_after_an_abandoned_commit_would_count(
    commits: StuckCommits, server: FakeServer
) -> None:
    commits.connection_abandoned()
    server.now += SECONDS + 1.0
    assert await counts_of(commits, server) == 0


async def test_commits_are_counted_at_once_after_another_abandoned_connection(
    commits: StuckCommits, server: FakeServer
) -> None:
    for _ in range(2):
        commits.connection_abandoned()
        assert await counts_of(commits, server) == 1


async def test_stuck_commits_are_counted_until_there_are_none(commits: StuckCommits, server: Any) -> None:
    server.stuck = 1
    await commits.refresh(server)
    assert REGISTRY.get_sample_value("notes_db_held_commits") == 1
    server.now += 100.0
    assert await counts_of(commits, server) == 1
    server.stuck = 0
    server.now += 1.0
    assert await counts_of(commits, server) == 1
    assert REGISTRY.get_sample_value("notes_db_held_commits") == 0
    server.now += 1.0
    assert await counts_of(commits, server) == 0


async def test_stuck_commits_and_writes_in_flight_together_are_limited(commits: StuckCommits, server: Any) -> None:
    server.stuck = 1
    await commits.refresh(server)
    committed = asyncio.Event()

    async def slow_commit(_db: object) -> None:
        await committed.wait()

    in_flight = asyncio.create_task(commits.write(slow_commit, server))
    await asyncio.sleep(0)
    rejected = REGISTRY.get_sample_value("notes_db_rejected_total") or 0
    with pytest.raises(StoreBusy, match=r"stuck in PostgreSQL for over 5 s: 1\. .* start one or"):
        await write(commits, server)
    assert REGISTRY.get_sample_value("notes_db_rejected_total") == rejected + 1
    assert not commits.limit_reached  # the next write may succeed
    committed.set()
    await in_flight
    assert await write(commits, server) == "committed"


async def test_all_writes_are_rejected_while_the_limit_is_reached(commits: StuckCommits, server: Any) -> None:
    for server.stuck in (LIMIT, LIMIT + 1):
        await commits.refresh(server)
        assert commits.limit_reached
        with pytest.raises(StoreBusy):
            await write(commits, server)


async def test_without_stuck_commits_writes_in_flight_are_not_limited(commits: StuckCommits, server: Any) -> None:
    committed = asyncio.Event()

    async def slow_commit(_db: object) -> None:
        await committed.wait()

    writes = [asyncio.create_task(commits.write(slow_commit, server)) for _ in range(LIMIT + 1)]
    await asyncio.sleep(0)
    committed.set()
    await asyncio.gather(*writes)


async def test_a_failed_write_is_no_longer_in_flight(commits: StuckCommits, server: Any) -> None:
    async def fail(_db: object) -> None:
        raise ValueError("a constraint")

    for _ in range(LIMIT):
        with pytest.raises(ValueError, match="a constraint"):
            await commits.write(fail, server)
    server.stuck = 1
    await commits.refresh(server)
    assert await write(commits, server) == "committed"


async def test_the_beginning_and_the_end_of_rejections_are_logged_once_each(
    commits: StuckCommits, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    logged: list[str] = []
    for server.stuck in (0, LIMIT, LIMIT, 1, 0, 0, LIMIT, 0):
        await commits.refresh(server)
        for _ in range(2):
            if commits.limit_reached:
                with pytest.raises(StoreBusy):
                    await write(commits, server)
            else:
                await write(commits, server)
        logged.append(" ".join(record.getMessage().split()[0] for record in caplog.records))
        caplog.clear()
    assert logged == ["", "Rejecting", "", "", "Accepting", "", "Rejecting", "Accepting"]


# --- a pair of servers -----------------------------------------------------------------------------------------------

POOL_SIZE = 3
WRITE_SECONDS = 0.1
"""Between two writes: without the limit each leaks a backend, twenty while one of them is pending."""
BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'notes'"


@pytest.fixture
def pair() -> Iterator[Replicated]:
    with replicated() as replicas:
        yield replicas


async def backends(pair: Replicated) -> int:
    """The number of the service's backends, including those whose client is gone."""
    async with connected(pair.url) as db:
        return int(await db.fetchval(BACKENDS))


@pytest.mark.docker
@pytest.mark.postgresql
@pytest.mark.full
async def test_commits_stuck_without_a_standby_use_at_most_twice_the_pool_size_in_backends(
    pair: Replicated, record_property: Callable[[str, object], None]
) -> None:
    writes: list[asyncio.Task[int]] = []
    peak = 0

    async def write(client: httpx2.AsyncClient) -> int:
        response = await client.post("/v1/notes", json={"text": "Water the plants"})
        if response.status_code == 503:
            assert response.headers["retry-after"] == "1"
            assert response.headers["content-type"] == "application/problem+json"
        return response.status_code

    async def until_one(status: int) -> None:
        """Keeps writing until one of these writes gets this status."""
        before = len(writes)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not any(task.done() and task.result() == status for task in writes[before:]):
                writes.append(asyncio.create_task(write(client)))
                await asyncio.sleep(WRITE_SECONDS)

    settings = {
        "NOTES_DATABASE_URL": pair.url,
        "NOTES_DATABASE_POOL_SIZE": str(POOL_SIZE),
        "NOTES_DATABASE_SECONDS": "2",
        "NOTES_DATABASE_STATEMENT_SECONDS": "0.5",
        "NOTES_DATABASE_LOCK_SECONDS": "0.2",
    }
    with NOTES.serving(**settings) as service:
        async with httpx2.AsyncClient(base_url=service.url, timeout=DEADLINE_SECONDS) as client:
            await until_one(201)
            await asyncio.to_thread(pair.stop_standby)
            await asyncio.gather(*writes)
            rejected = 0
            async with asyncio.timeout(DEADLINE_SECONDS):
                while rejected < 100:
                    writes.append(asyncio.create_task(write(client)))
                    await asyncio.sleep(WRITE_SECONDS)
                    peak = max(peak, await backends(pair))
                    rejected = sum(task.done() and task.result() == 503 for task in writes)
            assert peak <= 2 * POOL_SIZE
            assert peak > POOL_SIZE, "no commit was stuck, so nothing was tested"
            assert (await client.get(f"/v1/notes/{'0' * 32}")).status_code == 200
            health = await client.get("/health")
            assert health.status_code == 503
            assert "start one" in health.json()["checks"]["storage"]["detail"]
            stuck = read(await client.get("/metrics", headers={"Accept": PROMETHEUS_3}))["notes_db_held_commits"]
            assert POOL_SIZE <= stuck <= peak

            await asyncio.to_thread(pair.start_standby)
            await until_one(201)
            async with asyncio.timeout(DEADLINE_SECONDS):
                while await backends(pair) > POOL_SIZE:
                    await asyncio.sleep(0.1)
            record_property("summary", f"{dict(Counter(await asyncio.gather(*writes)))}, at most {peak} backends")
        service.stop()
    assert any("Rejecting writes" in line for line in service.log)
    assert any("Accepting writes again" in line for line in service.log)
