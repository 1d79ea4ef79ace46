"""A standby that is gone holds commits, and no more of them than a pod's pool has places."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

import httpx2
import pytest
from databases import connected
from expositions import PROMETHEUS_3, read
from programs import DEADLINE_SECONDS
from replicated import Replicated, replicated
from running import NOTES

pytestmark = [pytest.mark.docker, pytest.mark.postgresql]

POOL_SIZE = 3
WRITE_SECONDS = 0.1
"""Between two writes: without a bound each leaves a backend behind, twenty while one of them is waited for."""
BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'notes'"


@pytest.fixture
def pair() -> Iterator[Replicated]:
    with replicated() as both:
        yield both


async def backends(pair: Replicated) -> int:
    """How many the service has, those whose client is gone among them."""
    async with connected(pair.url) as db:
        return int(await db.fetchval(BACKENDS))


async def test_commits_that_wait_for_a_standby_take_no_more_backends_than_twice_the_pool(
    pair: Replicated, record_property: Callable[[str, object], None]
) -> None:
    writes: list[asyncio.Task[int]] = []
    most = 0

    async def write(client: httpx2.AsyncClient) -> int:
        answer = await client.post("/v1/notes", json={"text": "Water the plants"})
        if answer.status_code == 503:
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["content-type"] == "application/problem+json"
        return answer.status_code

    async def until_one(status: int) -> None:
        """Writes all the while, and returns once one that began meanwhile was answered so."""
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
            refused = 0
            async with asyncio.timeout(DEADLINE_SECONDS):
                while refused < 100:
                    writes.append(asyncio.create_task(write(client)))
                    await asyncio.sleep(WRITE_SECONDS)
                    most = max(most, await backends(pair))
                    refused = sum(task.done() and task.result() == 503 for task in writes)
            assert most <= 2 * POOL_SIZE
            assert most > POOL_SIZE, "no commit was held, so nothing was tried"
            assert (await client.get(f"/v1/notes/{'0' * 32}")).status_code == 200
            health = await client.get("/health")
            assert health.status_code == 503
            assert "start one" in health.json()["checks"]["storage"]["detail"]
            held = read(await client.get("/metrics", headers={"Accept": PROMETHEUS_3}))["notes_db_held_commits"]
            assert POOL_SIZE <= held <= most

            await asyncio.to_thread(pair.start_standby)
            await until_one(201)
            async with asyncio.timeout(DEADLINE_SECONDS):
                while await backends(pair) > POOL_SIZE:
                    await asyncio.sleep(0.1)
            record_property("summary", f"{dict(Counter(await asyncio.gather(*writes)))}, at most {most} backends")
        service.stop()
    assert any("Writes are refused" in line for line in service.log)
    assert any("Writes are begun again" in line for line in service.log)
