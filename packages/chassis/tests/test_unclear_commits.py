"""Work whose outcome is unknown is never reported as rejected."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from note_stores import TEXT, open_store
from proxy import Proxy

from chassis.postgres import database
from chassis.postgres.pool import Pool
from chassis.storage import StoreBusy, StoreUnavailable


async def hold_the_next_connection(pool: Pool, until: asyncio.Event) -> None:
    """Acquires the pool's only connection as soon as it is free. A request would release it too soon."""
    while True:
        try:
            connection = await pool.acquire(deadline=asyncio.get_running_loop().time() + 30)
        except StoreBusy:
            await asyncio.sleep(0)
        else:
            break
    await until.wait()
    pool.release(connection)


async def test_an_unresolved_in_doubt_commit_is_not_reported_as_rejected(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[Pool] = []

    def create_pool(*args: Any, **kwargs: Any) -> Pool:
        pools.append(Pool(*args, **kwargs))
        return pools[-1]

    monkeypatch.setattr(database, "Pool", create_pool)
    async with (
        Proxy(postgres_url).running() as proxy,
        open_store(proxy.url, pool_size=1, queue_size=0) as store,
        open_store(postgres_url) as other,
    ):
        note, until = uuid4(), asyncio.Event()
        await store.ping()

        def cut_and_let_another_in(data: bytes) -> bool:
            if b"INSERT 0 1\0" not in data:
                return False
            proxy.before_response = None
            return True

        proxy.before_response = cut_and_let_another_in
        adding = asyncio.create_task(store.add(note, TEXT))
        await asyncio.sleep(0)  # it has the connection now
        blocker = asyncio.create_task(hold_the_next_connection(pools[0], until))
        with pytest.raises(StoreUnavailable) as error:
            await adding
        until.set()
        await blocker
        assert type(error.value) is StoreUnavailable, "StoreBusy promises that nothing was changed"
        assert await other.get(note) == TEXT
