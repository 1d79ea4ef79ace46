"""Misbehaving clients, and checks that they leak no resources in a service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
from programs import DEADLINE_SECONDS, Service
from prometheus_client.parser import text_string_to_metric_families

MIB = 1024 * 1024
SLACK_FILES = 3
"""Tolerated additional open files of the process: a connection leak leaves hundreds."""
MAX_GROWTH_MIB = 0.5
"""Tolerated growth per hundred requests, so 5 KiB per request: a leaked connection or request takes more than that.
Without a leak, memory grows by up to 1 MiB once, while the allocators reach their size."""
FREED_AT_ONCE = {f"MALLOC_{name}_THRESHOLD_": "65536" for name in ("MMAP", "TRIM")}
"""Environment of a service that assert_no_leaks measures: glibc returns freed memory immediately instead of keeping it
for a while, so that memory growth means a leak."""


class Response:
    """One response that a client has read from its connection."""

    def __init__(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.status = status
        self.headers = headers
        self.content = content

    def problem(self) -> Any:
        """The problem document in the content."""
        assert self.headers["content-type"] == "application/problem+json"
        return json.loads(self.content)


class Client:
    """One connection, as raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def response(self) -> Response:
        """Reads the next response."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
            content = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Response(int(head[0].split()[1]), headers, content)

    async def until(self, end: bytes) -> bytes:
        """Reads up to and including these bytes."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self._reader.readuntil(end)

    async def read(self, number: int) -> None:
        """Reads this many bytes."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self._reader.readexactly(number)

    async def is_closed(self) -> bool:
        """Whether the service closes the connection without sending anything more."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            try:
                return await self._reader.read(1) == b""
            except ConnectionResetError:
                return True

    def close(self) -> None:
        self._writer.transport.abort()


@contextlib.asynccontextmanager
async def connected(service: Service) -> AsyncIterator[Client]:
    """A connection to the service, until the end of the block."""
    host, port = service.url.removeprefix("http://").rsplit(":", 1)
    async with connection_to(host, int(port)) as client:
        yield client


@contextlib.asynccontextmanager
async def connection_to(host: str, port: int) -> AsyncIterator[Client]:
    """A connection to this address, until the end of the block."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that unread data stays in the service
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (host, port))
    client = Client(*await asyncio.open_connection(sock=connection))
    try:
        yield client
    finally:
        client.close()


async def wait_until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Returns once the condition is true."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def trickling(client: Client, piece: bytes) -> AsyncIterator[None]:
    """Sends the piece repeatedly, with pauses too short for any timeout between two bytes."""

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


async def send_without_reading(client: Client, headers: bytes) -> None:
    """Requests more than buffers hold, without reading; detects by sending that the connection was aborted."""
    await client.send(headers + b"\r\n")
    async with asyncio.timeout(DEADLINE_SECONDS):
        with contextlib.suppress(ConnectionError, RuntimeError):  # uvloop raises RuntimeError on an aborted connection
            while True:
                await asyncio.sleep(0.1)
                await client.send(b"\r\n")


async def assert_no_leaks(service: Service, misbehave: Callable[[Client], Awaitable[None]], times: int) -> None:
    """Fails if rounds of a hundred concurrent bad clients leak memory, files or requests, or cause a 5xx."""

    async def run_client() -> None:
        async with connected(service) as client:
            await misbehave(client)

    async def rounds(number: int) -> int:
        for _ in range(number):
            await asyncio.gather(*(run_client() for _ in range(100)))
        async with httpx2.AsyncClient(base_url=service.url, timeout=DEADLINE_SECONDS) as client:

            async def is_idle() -> bool:  # only this request is in flight
                return sum_of((await client.get("/metrics")).text, "http_requests_in_flight") == 1

            await wait_until(is_idle)
            memory: int = (await client.get("/health")).json()["memory_bytes"]
            return memory

    before = await rounds(1)  # warm-up: fills caches and opens long-lived files
    files = _files(service)
    growth = []
    for _ in range(3):  # a leak grows each time; memory retained by the allocator does not
        after = await rounds(times)
        growth.append(round((after - before) / MIB, 1))
        before = after
        if growth[-1] < times * MAX_GROWTH_MIB:
            break
    assert growth[-1] < times * MAX_GROWTH_MIB, f"MiB of growth after each {times * 100} requests: {growth}"

    async def all_are_closed() -> bool:
        return _files(service) <= files + SLACK_FILES

    await wait_until(all_are_closed)
    metrics = httpx2.get(f"{service.url}/metrics").text
    assert sum_of(metrics, "http_requests_total", status="5") == 0


async def assert_slow_readers_are_cut_off(service: Service, request: bytes, rounds: int, *, namespace: str) -> None:
    """assert_no_leaks with clients that do not read the response: each is disconnected. namespace: of the metrics."""

    def cut_off() -> float:
        return sum_of(httpx2.get(f"{service.url}/metrics").text, f"{namespace}_slow_clients_total", part="write")

    before = cut_off()
    await assert_no_leaks(service, lambda client: send_without_reading(client, request), rounds)
    assert cut_off() - before >= (1 + rounds) * 100


def sum_of(metrics: str, name: str, **labels: str) -> float:
    """The sum of the series of this name whose labels start with these values."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == name and all(sample.labels[label].startswith(value) for label, value in labels.items())
    )


def _files(service: Service) -> int:
    """Number of open files of the process, including connections. Linux only."""
    files = Path(f"/proc/{service.process.pid}/fd")
    return len(list(files.iterdir())) if files.exists() else 0
