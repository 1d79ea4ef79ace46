"""Concurrent GETs share a statement, transparently. The chassis' part is tested in
packages/chassis/tests/test_batching.py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import httpx2
import pytest
from making import NOW, a_task
from planted import join_in_flight
from proxy import Proxy
from pydantic import SecretStr
from stores import open_store

from chassis.postgres.batching import Batcher
from task_api.app import create_app
from task_api.settings import Settings
from task_api.store import Write
from task_api.store.memory import MemoryStore
from task_api.store.task_json import KEY_OF_ONE, KEYS_OF_MANY, ROW_OF_ONE, ROWS_OF_MANY
from task_api.tasks.models import Task

CLIENTS = 16
ROUNDS = 25
WRITES = 30


@contextlib.asynccontextmanager
async def in_process(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the application in this process."""
    app = create_app(Settings(database_url=SecretStr(url)))
    await app.state.store.open()
    try:
        async with httpx2.AsyncClient(base_url="http://localhost", transport=httpx2.ASGITransport(app)) as client:
            yield client
    finally:
        await app.state.store.close()


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements sent to connections from now on."""
    statements: list[str] = []

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        async def ask(db: Any, query: str, *values: Any, **named: Any) -> Any:
            statements.append(query)
            return await real(db, query, *values, **named)

        return ask

    for method in ("execute", "fetch", "fetchrow", "fetchval"):
        monkeypatch.setattr(asyncpg.Connection, method, counted(getattr(asyncpg.Connection, method)))
    return statements


async def test_sixteen_clients_send_at_most_a_quarter_of_a_statement_per_get(
    postgres_url: str, statements: list[str]
) -> None:
    async with in_process(postgres_url) as client:
        tasks = [(await client.post("/v1/tasks", json={"title": f"number {n}"})).json() for n in range(CLIENTS)]
        statements.clear()

        async def read(number: int) -> None:
            for turn in range(ROUNDS):
                task = tasks[(number + turn) % CLIENTS]
                response = await client.get(f"/v1/tasks/{task['id']}")
                assert (response.status_code, response.json()) == (200, task)
                assert response.headers["etag"] == '"v1"'

        await asyncio.gather(*(read(number) for number in range(CLIENTS)))
    assert set(statements) <= {KEY_OF_ONE, KEYS_OF_MANY, ROW_OF_ONE, ROWS_OF_MANY}
    assert len(statements) / (CLIENTS * ROUNDS) < 0.25


async def test_a_single_client_sends_one_statement_per_get(postgres_url: str, statements: list[str]) -> None:
    async with in_process(postgres_url) as client:
        task = (await client.post("/v1/tasks", json={"title": "Water the plants"})).json()
        statements.clear()
        for _ in range(ROUNDS):
            assert (await client.get(f"/v1/tasks/{task['id']}")).json() == task
    assert statements == [KEY_OF_ONE, ROWS_OF_MANY, ROW_OF_ONE, *[KEY_OF_ONE] * (ROUNDS - 2)]


async def test_missing_and_unchanged_tasks_are_handled_in_joined_reads(postgres_url: str) -> None:
    async with in_process(postgres_url) as client:
        task = (await client.post("/v1/tasks", json={"title": "Water the plants"})).json()
        path, missing = f"/v1/tasks/{task['id']}", f"/v1/tasks/{a_task().id}"
        known = {"If-None-Match": '"v1"'}
        responses = await asyncio.gather(
            *(client.get(path) for _ in range(CLIENTS)),
            *(client.get(missing) for _ in range(CLIENTS)),
            *(client.get(path, headers=known) for _ in range(CLIENTS)),
            *(client.head(path) for _ in range(CLIENTS)),
        )
        alone = [await client.get(missing), await client.head(path)]
    assert [response.status_code for response in responses] == [
        *[200] * CLIENTS,
        *[404] * CLIENTS,
        *[304] * CLIENTS,
        *[alone[1].status_code] * CLIENTS,
    ]
    assert {response.json()["type"] for response in responses[CLIENTS : 2 * CLIENTS]} == {alone[0].json()["type"]}


async def test_a_thousand_clients_read_the_same_as_from_the_memory_store(postgres_url: str) -> None:
    """Each reads its own task after each write, tasks that others do not write, and missing ones."""
    memory, missing = MemoryStore(), a_task().id
    still = [a_task() for _ in range(20)]
    async with open_store(postgres_url, queue_size=2000, seconds=120) as store:
        for each in (store, memory):
            for task in still:
                await each.commit([Write(task, "created")], now=NOW)

        async def live(number: int) -> None:
            task: Task = a_task(title=f"number {number}")
            for version in (1, 2):
                task = task.model_copy(update={"version": version, "percent_done": version})
                for each in (store, memory):
                    await each.commit([Write(task, "created" if version == 1 else "updated")], now=NOW)
                for task_id in (task.id, still[number % len(still)].id, missing):
                    assert await store.get(task_id) == await memory.get(task_id)
                    assert await store.get_json(task_id) == await memory.get_json(task_id)

        await asyncio.gather(*(live(number) for number in range(1000)))


async def stale_reads(url: str) -> int:
    """How often, of WRITES, a client that updated a task and then read it got the previous version, with concurrent
    readers."""
    async with Proxy(url).running() as proxy, in_process(proxy.url) as client:
        proxy.delay(0.005)  # so that an older read is always in flight
        task = (await client.post("/v1/tasks", json={"title": "Water the plants"})).json()
        path, stale, ended = f"/v1/tasks/{task['id']}", 0, asyncio.Event()

        async def read() -> None:
            while not ended.is_set():
                assert (await client.get(path)).status_code == 200

        readers = [asyncio.create_task(read()) for _ in range(CLIENTS)]
        for number in range(WRITES):
            written = (await client.patch(path, json={"title": f"number {number}"})).json()
            stale += (await client.get(path)).json()["version"] < written["version"]
        ended.set()
        await asyncio.gather(*readers)
        return stale


async def test_a_client_reads_its_own_writes(postgres_url: str) -> None:
    assert await stale_reads(postgres_url) == 0


async def test_a_planted_stale_joined_read_is_detected(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batcher, "submit", join_in_flight(Batcher.submit))
    assert await stale_reads(postgres_url) > 0, "it went unseen"
