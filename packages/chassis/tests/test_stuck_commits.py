"""While the standby is down, commits get stuck, but no more than the size of a pod's pool."""

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
