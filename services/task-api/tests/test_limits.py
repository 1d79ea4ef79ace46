"""What the service takes from its clients, and how it ends with those who ask for more."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families
from running import DEADLINE_SECONDS, Service, serving
from uvicorn.server import ServerState

from chassis.body import DROP_BYTES
from chassis.connection import MAX_HEAD_BYTES, bounded
from task_api.app import create_app
from task_api.service import TaskApi
from task_api.settings import Settings

MIB = 1024 * 1024
SMALL = 100_000
PIECE = 128 * 1024
IMPATIENT = {
    **{f"TASKS_{name}_SECONDS": "0.5" for name in ("HEAD", "BODY", "WRITE")},
    "TASKS_BODY_MAX_BYTES": str(SMALL),
    # glibc would keep what is freed for a while; without it, memory that grows is memory that somebody holds.
    **{f"MALLOC_{name}_THRESHOLD_": "65536" for name in ("MMAP", "TRIM")},
}
POST = b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


class Answer:
    """What a client read from its connection, up to the end of one answer."""

    def __init__(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.status = status
        self.headers = headers
        self.content = content

    def problem(self) -> Any:
        """The problem document that it is."""
        assert self.headers["content-type"] == "application/problem+json"
        return json.loads(self.content)


class Client:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> Answer:
        """The next answer."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
            content = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(head[0].split()[1]), headers, content)

    async def until(self, end: bytes) -> bytes:
        """What comes, up to these bytes."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self._reader.readuntil(end)

    async def read(self, number: int) -> None:
        """So many bytes."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self._reader.readexactly(number)

    async def is_closed(self) -> bool:
        """Whether the service ends the connection and says nothing more."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            try:
                return await self._reader.read(1) == b""
            except ConnectionResetError:
                return True

    def close(self) -> None:
        self._writer.transport.abort()


@contextlib.asynccontextmanager
async def connected(service: Service) -> AsyncIterator[Client]:
    host, port = service.url.removeprefix("http://").rsplit(":", 1)
    async with _connection(host, int(port)) as client:
        yield client


@contextlib.asynccontextmanager
async def _connection(host: str, port: int) -> AsyncIterator[Client]:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # what is not read is to stay with the service
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (host, port))
    client = Client(*await asyncio.open_connection(sock=connection))
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """The service as it is without settings."""
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def impatient() -> Iterator[Service]:
    """The service with little time for its clients, and little room."""
    with serving(**IMPATIENT) as running:
        yield running


@pytest.fixture(scope="module")
def full() -> Iterator[Service]:
    """As impatient, with tasks of 4 MB: so much that the system's buffers do not hold what LISTS asks for."""
    with serving(**IMPATIENT) as running, httpx2.Client(base_url=running.url) as client:
        for _ in range(100):
            client.post("/v1/tasks", json={"title": "x", "description": "\N{GRINNING FACE}" * 10_000})
        yield running


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.01)


def of_length(body: bytes) -> bytes:
    """A request with this body, its length said before."""
    return POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def in_chunks(body: bytes) -> bytes:
    """A request with this body, its length not said."""
    pieces = [body[i : i + 50_000] for i in range(0, len(body), 50_000)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


# --- The body --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [of_length, in_chunks])
async def test_a_body_of_one_mebibyte_is_taken_and_one_byte_more_is_not(
    service: Service, form: Callable[[bytes], bytes]
) -> None:
    async with connected(service) as client:
        await client.send(form(b'{"title": "x"}'.ljust(MIB)))
        assert (await client.answer()).status == 201
        await client.send(form(b'{"title": "x"}'.ljust(MIB + 1)))  # all of it, before it reads
        answer = await client.answer()
        assert answer.status == 413
        assert answer.problem()["type"] == "/problems/body-too-large"
        assert f"{MIB} bytes" in answer.problem()["detail"]
        assert answer.headers["connection"] == "close"
        assert await client.is_closed()


async def test_a_client_that_asks_first_is_told_before_it_sends(service: Service) -> None:
    async with connected(service) as client:
        await client.send(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (2 * MIB))
        assert (await client.answer()).status == 413
    async with connected(service) as client:
        body = b'{"title": "x"}'
        await client.send(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert (await client.answer()).status == 100
        await client.send(body)
        assert (await client.answer()).status == 201


async def test_who_sends_without_end_is_cut_off(service: Service) -> None:
    async with connected(service) as client:
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 10 * DROP_BYTES:
                await client.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                sent += 65536
        assert DROP_BYTES < sent < DROP_BYTES + 16 * MIB  # the last are what the system's buffers may hold


@pytest.mark.parametrize("form", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_body_that_trickles_is_answered_408(impatient: Service, form: str) -> None:
    async with connected(impatient) as client:
        await client.send(POST + form.encode() + b"\r\n\r\n")
        async with trickling(client, b"1\r\nx\r\n"):
            answer = await client.answer()
        assert answer.status == 408
        assert answer.problem()["type"] == "/problems/body-too-slow"
        assert await client.is_closed()


@contextlib.asynccontextmanager
async def trickling(client: Client, piece: bytes) -> AsyncIterator[None]:
    """Sends the piece again and again, with pauses that no timeout between two bytes would notice."""

    async def trickle() -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await client.send(piece)
                await asyncio.sleep(0.1)

    task = asyncio.create_task(trickle())
    try:
        yield
    finally:
        task.cancel()


# --- The head --------------------------------------------------------------------------------------------------------


async def test_headers_that_trickle_are_answered_408(impatient: Service) -> None:
    async with connected(impatient) as client:
        await client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        async with trickling(client, b"a: b\r\n"):
            answer = await client.answer()
            assert answer.status == 408
            assert b"0.5 s" in answer.content
            assert await client.is_closed()


async def test_time_between_two_requests_is_not_time_for_headers(impatient: Service) -> None:
    async with connected(impatient) as client:
        for _ in range(2):
            await client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.answer()).status == 200
            await asyncio.sleep(0.7)


NEVER_ENDING = b"GET /livez HTTP/1.1\r\nHost: x\r\na: " + b"x" * 4 * MIB


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.1\r\nHost: x\r\na: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * MAX_HEAD_BYTES + b"\r\n",
        b"GET /" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        of_length(b"{}").replace(b"\r\n\r\n", b"\r\na: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n"),
        NEVER_ENDING,
    ],
    ids=["one huge header", "many headers", "a huge path", "with a body", "one that never ends"],
)
async def test_a_head_over_64_kib_is_answered_431(service: Service, head: bytes) -> None:
    async with connected(service) as client:
        await client.send(head)  # all of it, before it reads
        answer = await client.answer()
        assert answer.status == 431
        assert str(MAX_HEAD_BYTES).encode() in answer.content
        assert await client.is_closed()
    assert not any("Invalid HTTP" in line for line in service.log)


async def test_a_head_below_64_kib_is_taken_in_whatever_pieces_it_comes(service: Service) -> None:
    async with connected(service) as client:
        await client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        for number in range(6):
            await client.send(b"a%d: %b\r\n" % (number, b"x" * 10_000))
            await asyncio.sleep(0.02)  # so that the service reads them one by one
        await client.send(b"\r\n")
        assert (await client.answer()).status == 200


async def test_a_body_does_not_count_for_the_head_that_follows_it(service: Service) -> None:
    async with connected(service) as client:
        await client.send(of_length(b'{"title": "x"}'.ljust(200_000)) + b"GET /livez HTTP/1.1\r\nHost")
        assert (await client.answer()).status == 201
        await client.send(b": x\r\n\r\n")
        assert (await client.answer()).status == 200


IDLE_SECONDS = 1


@pytest.mark.parametrize("request_", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["first", "between"])
async def test_an_empty_line_does_not_keep_a_connection_for_ever(request_: bytes) -> None:
    async with _idling() as client:
        if request_:
            await client.send(request_)
            assert (await client.answer()).status == 200
        await client.send(b"\r\n")
        assert await client.is_closed()


async def test_an_empty_line_before_a_request_takes_no_time_from_its_answer() -> None:
    async with _idling() as client:
        await client.send(b"\r\nGET /v1/changes HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n\r\n")
        await client.until(b"retry: 2000\n\n\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3 * IDLE_SECONDS):
                await client.is_closed()


@contextlib.asynccontextmanager
async def _idling() -> AsyncIterator[Client]:
    """A connection to the application, where idle ones are ended soon."""
    protocol: Callable[..., asyncio.Protocol] = bounded(10, 10, TaskApi.metrics.slow_clients_total)
    config = uvicorn.Config(create_app(Settings()), timeout_keep_alive=IDLE_SECONDS, log_config=None)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1"
    )
    async with server, _connection(*server.sockets[0].getsockname()) as client:
        yield client
        client.close()
        while state.connections:
            await asyncio.sleep(0.01)


async def test_pipelined_requests_are_answered_in_turn(service: Service) -> None:
    async with connected(service) as client:
        missing = b"GET /v1/tasks/missing HTTP/1.1\r\nHost: x\r\n\r\n"
        await client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + of_length(b'{"title": "x"}') + missing)
        assert [(await client.answer()).status for _ in range(3)] == [200, 201, 404]


async def test_a_head_that_trickles_behind_a_request_is_not_answered_in_its_place(impatient: Service) -> None:
    async with connected(impatient) as client:
        # A stream is a request that is still being answered when the time for the next one's headers is over.
        await client.send(b"GET /v1/changes HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\nGET /livez")
        answer = await client.answer()
        assert answer.headers["content-type"].startswith("text/event-stream")
        await asyncio.sleep(0.7)
        httpx2.post(f"{impatient.url}/v1/tasks", json={"title": "in the stream"})
        assert b"in the stream" in await client.until(b"in the stream")


async def test_an_offer_of_http_2_is_answered_in_http_1(service: Service) -> None:
    """As Java's HTTP client makes it with its first request; it is nothing to warn of."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
    async with connected(service) as client:
        await client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
        assert (await client.answer()).content == b"ok"
    assert not any("pgrade" in line for line in service.log)


async def test_slow_clients_do_not_hinder_others(service: Service) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for beginning in (b"", b"GET /livez HTTP/1.1\r\nHos", POST + b"Content-Length: 100\r\n\r\n{") * 50:
            await (await stack.enter_async_context(connected(service))).send(beginning)
        async with connected(service) as client:
            await client.send(of_length(b'{"title": "x"}'))
            assert (await client.answer()).status == 201


# --- Memory ----------------------------------------------------------------------------------------------------------


async def _answered(client: Client, request: bytes, *statuses: int) -> None:
    await client.send(request)
    answer = await client.answer()
    assert answer.status in statuses, answer.content


async def _trickle(client: Client, head: bytes) -> None:
    await client.send(head)
    async with trickling(client, b"a"):
        assert (await client.answer()).status == 408


async def _go(client: Client, request: bytes) -> None:
    await client.send(request)  # and the connection is closed


async def _do_not_read(client: Client, headers: bytes) -> None:
    """Asks for more than buffers hold; finds out by sending that the connection is cut: to read would show it, too."""
    await client.send(headers + b"\r\n")
    async with asyncio.timeout(DEADLINE_SECONDS):
        with contextlib.suppress(ConnectionError):
            while True:
                await asyncio.sleep(0.1)
                await client.send(b"\r\n")


BAD: dict[str, Callable[[Client], Awaitable[None]]] = {
    "too large": lambda client: _answered(client, of_length(b"x" * (SMALL + 1)), 413),
    "too large in chunks": lambda client: _answered(client, in_chunks(b"x" * (SMALL + 1)), 413),
    "trickled body": lambda client: _trickle(client, POST + b"Content-Length: 100\r\n\r\n"),
    "trickled head": lambda client: _trickle(client, b"GET /livez HTTP/1.1\r\na: "),
    "huge head": lambda client: _answered(client, NEVER_ENDING[: 5 * MAX_HEAD_BYTES], 431),
    "invalid HTTP": lambda client: _answered(client, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "deep JSON": lambda client: _answered(client, of_length(b"[" * 50_000), 400, 422),
    "invalid UTF-8": lambda client: _answered(client, of_length(b'{"title": "\xff\xfe"}'), 400, 422),
    "gone in mid-body": lambda client: _go(client, POST + b"Content-Length: 90000\r\n\r\n" + b"x" * 80_000),
    "gone before the answer": lambda client: _go(client, of_length(b'{"title": 5}')),
}
LISTS = 4
LIST = b"GET /v1/tasks?page_size=25 HTTP/1.1\r\nHost: x\r\n"
UNREAD = {
    "lists": b"\r\n".join([LIST] * LISTS),
    "lists, and then closed": b"\r\n".join([LIST] * LISTS) + b"Connection: close\r\n",
    "stream": b"GET /v1/changes HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n",
}
ROUNDS, UNREAD_ROUNDS = 6, 2
"""Of a hundred requests each; those that are not read have a megabyte to answer, and more of them would take long."""
FEW = 3
"""Files that the process may have open beyond those it had: a leak of connections leaves hundreds."""
GROWTH_MIB = 0.5
"""By a hundred requests more, so 5 KiB for each: a connection or a request that is kept takes more than that. Nothing
being kept, it grows by up to 1 MiB once, while the allocators find their size."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", BAD)
async def test_a_hundred_bad_requests_at_once_leave_nothing_behind(impatient: Service, kind: str) -> None:
    await _leave_nothing_behind(impatient, BAD[kind], ROUNDS)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", UNREAD)
async def test_a_hundred_clients_at_once_that_do_not_read_leave_nothing_behind(full: Service, kind: str) -> None:
    before = _sum(httpx2.get(f"{full.url}/metrics").text, "task_api_slow_clients_total", part="write")
    await _leave_nothing_behind(full, lambda client: _do_not_read(client, UNREAD[kind]), UNREAD_ROUNDS)
    after = _sum(httpx2.get(f"{full.url}/metrics").text, "task_api_slow_clients_total", part="write")
    assert after - before >= (1 + UNREAD_ROUNDS) * 100


async def test_a_client_that_reads_slowly_but_reads_gets_all_of_it(full: Service) -> None:
    async with connected(full) as client:
        await client.send(UNREAD["lists, and then closed"] + b"\r\n")
        for _ in range(LISTS):
            head = await client.until(b"\r\n\r\n")
            (length,) = re.findall(rb"content-length: (\d+)", head)
            for _ in range(int(length) // PIECE):
                await client.read(PIECE)
                await asyncio.sleep(0.05)  # all together longer than the service waits for a client that reads nothing
            await client.read(int(length) % PIECE)
        assert await client.is_closed()


async def _leave_nothing_behind(service: Service, bad: Callable[[Client], Awaitable[None]], times: int) -> None:
    async def one() -> None:
        async with connected(service) as client:
            await bad(client)

    async def rounds(number: int) -> int:
        for _ in range(number):
            await asyncio.gather(*(one() for _ in range(100)))
        async with httpx2.AsyncClient(base_url=service.url, timeout=DEADLINE_SECONDS) as client:

            async def is_alone() -> bool:  # nothing is in flight but this request itself
                return _sum((await client.get("/metrics")).text, "http_requests_in_flight") == 1

            await until(is_alone)
            memory: int = (await client.get("/health")).json()["memory_bytes"]
            return memory

    before = await rounds(1)  # until then caches fill, and what is opened once is open
    files = _files(service)
    growth = []
    for _ in range(3):  # what leaks grows each time; what the allocator keeps for later does not
        after = await rounds(times)
        growth.append(round((after - before) / MIB, 1))
        before = after
        if growth[-1] < times * GROWTH_MIB:
            break
    assert growth[-1] < times * GROWTH_MIB, f"MiB more after each {times * 100} requests: {growth}"

    async def all_are_closed() -> bool:
        return _files(service) <= files + FEW

    await until(all_are_closed)
    metrics = httpx2.get(f"{service.url}/metrics").text
    assert _sum(metrics, "http_requests_total", status="5") == 0


def _sum(metrics: str, name: str, **labels: str) -> float:
    """The sum of the series of this name whose labels begin with these."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == name and all(sample.labels[label].startswith(value) for label, value in labels.items())
    )


def _files(service: Service) -> int:
    """How many files the process has open, each connection being one. Only Linux tells."""
    files = Path(f"/proc/{service.process.pid}/fd")
    return len(list(files.iterdir())) if files.exists() else 0


# --- The storage -----------------------------------------------------------------------------------------------------


async def test_more_work_than_the_database_can_do_is_refused_at_once(postgres_url: str) -> None:
    settings = {
        "TASKS_DATABASE_URL": postgres_url,
        "TASKS_DATABASE_POOL_SIZE": "1",
        "TASKS_DATABASE_QUEUE_SIZE": "1",
        "TASKS_DATABASE_LOCK_SECONDS": "25",  # the lock is held until all has been seen
        "TASKS_DATABASE_STATEMENT_SECONDS": "25",
        "TASKS_DATABASE_SECONDS": "25",
    }
    with serving(**settings) as busy:
        other = await asyncpg.connect(postgres_url)
        async with httpx2.AsyncClient(base_url=busy.url, timeout=DEADLINE_SECONDS) as client:
            task = (await client.post("/v1/tasks", json={"title": "x"})).json()
            transaction = other.transaction()
            await transaction.start()
            await other.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
            waiting = []
            for holds in ("task_api_db_pool_idle_connections 0.0", "task_api_db_pool_waiting 1.0"):
                waiting.append(asyncio.create_task(client.get(f"/v1/tasks/{task['id']}")))
                await until(partial(_told, client, holds))
            refused = await client.get(f"/v1/tasks/{task['id']}")
            assert refused.status_code == 503
            assert refused.json()["type"] == "/problems/overloaded"
            assert refused.headers["retry-after"] == "1"
            assert "task_api_db_rejected_total 1.0" in (await client.get("/metrics")).text
            health = await client.get("/health")
            assert (health.status_code, health.json()["status"]) == (200, "ok")
            assert not any(request.done() for request in waiting)  # what was refused was refused at once
            await transaction.rollback()
            assert [(await request).status_code for request in waiting] == [200, 200]
        await other.close()


async def _told(client: httpx2.AsyncClient, line: str) -> bool:
    return line in (await client.get("/metrics")).text
