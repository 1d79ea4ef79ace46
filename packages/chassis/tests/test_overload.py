"""Overload: more requests than the database can serve."""

from __future__ import annotations

import asyncio
from functools import partial

import asyncpg
import httpx2
from bad_clients import wait_until
from programs import DEADLINE_SECONDS
from running import NOTES


async def test_excess_requests_are_rejected_immediately(postgres_url: str) -> None:
    settings = {
        "NOTES_DATABASE_URL": postgres_url,
        "NOTES_DATABASE_POOL_SIZE": "1",
        "NOTES_DATABASE_QUEUE_SIZE": "1",
        "NOTES_DATABASE_LOCK_SECONDS": "25",  # the lock is held until all checks are done
        "NOTES_DATABASE_STATEMENT_SECONDS": "25",
        "NOTES_DATABASE_SECONDS": "25",
    }
    with NOTES.serving(**settings) as service:
        other = await asyncpg.connect(postgres_url)
        async with httpx2.AsyncClient(base_url=service.url, timeout=DEADLINE_SECONDS) as client:
            note = (await client.post("/v1/notes", json={"text": "x"})).json()
            transaction = other.transaction()
            await transaction.start()
            await other.execute("LOCK TABLE notes IN ACCESS EXCLUSIVE MODE")
            waiting = []
            for holds in ("notes_db_pool_idle_connections 0.0", "notes_db_pool_waiting 1.0"):
                waiting.append(asyncio.create_task(client.get(f"/v1/notes/{note}")))
                await wait_until(partial(_has_line, client, holds))
            rejected = await client.get(f"/v1/notes/{note}")
            assert rejected.status_code == 503
            assert rejected.json()["type"] == "/problems/overloaded"
            assert rejected.headers["retry-after"] == "1"
            assert "notes_db_rejected_total 1.0" in (await client.get("/metrics")).text
            health = await client.get("/health")
            assert (health.status_code, health.json()["status"]) == (200, "ok")
            assert not any(request.done() for request in waiting)  # rejected immediately, not after a timeout
            await transaction.rollback()
            assert [(await request).status_code for request in waiting] == [200, 200]
        await other.close()


async def _has_line(client: httpx2.AsyncClient, line: str) -> bool:
    return line in (await client.get("/metrics")).text
