"""Clients that send what and when they please, and what they must not leave behind in a service."""

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
FEW = 3
"""Files that the process may have open beyond those it had: a leak of connections leaves hundreds."""
GROWTH_MIB = 0.5
"""By a hundred requests more, so 5 KiB for each: a connection or a request that is kept takes more than that. Nothing
being kept, it grows by up to 1 MiB once, while the allocators find their size."""
FREED_AT_ONCE = {f"MALLOC_{name}_THRESHOLD_": "65536" for name in ("MMAP", "TRIM")}
"""The environment of a service that leave_nothing_behind looks at. glibc would keep what is freed for a while; without
it, memory that grows is memory that somebody holds."""


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
    """A connection to the service, until the end of the block."""
    host, port = service.url.removeprefix("http://").rsplit(":", 1)
    async with connection_to(host, int(port)) as client:
        yield client


@contextlib.asynccontextmanager
async def connection_to(host: str, port: int) -> AsyncIterator[Client]:
    """One to this address, until the end of the block."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # what is not read is to stay with the service
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (host, port))
    client = Client(*await asyncio.open_connection(sock=connection))
    try:
        yield client
    finally:
        client.close()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Returns once it holds."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.01)


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


async def do_not_read(client: Client, headers: bytes) -> None:
    """Asks for more than buffers hold; finds out by sending that the connection is cut: to read would show it, too."""
    await client.send(headers + b"\r\n")
    async with asyncio.timeout(DEADLINE_SECONDS):
        with contextlib.suppress(ConnectionError, RuntimeError):  # the latter is uvloop's word for one that was cut
            while True:
                await asyncio.sleep(0.1)
                await client.send(b"\r\n")


async def leave_nothing_behind(service: Service, bad: Callable[[Client], Awaitable[None]], times: int) -> None:
    """Fails where a hundred bad clients at once, so many times, leave memory, files or requests behind, or a defect."""

    async def one() -> None:
        async with connected(service) as client:
            await bad(client)

    async def rounds(number: int) -> int:
        for _ in range(number):
            await asyncio.gather(*(one() for _ in range(100)))
        async with httpx2.AsyncClient(base_url=service.url, timeout=DEADLINE_SECONDS) as client:

            async def is_alone() -> bool:  # nothing is in flight but this request itself
                return sum_of((await client.get("/metrics")).text, "http_requests_in_flight") == 1

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
    assert sum_of(metrics, "http_requests_total", status="5") == 0


async def cut_off_who_do_not_read(service: Service, request: bytes, rounds: int, *, namespace: str) -> None:
    """The same of clients that do not read what they asked for, each of whom is cut off. namespace: of the metrics."""

    def cut_off() -> float:
        return sum_of(httpx2.get(f"{service.url}/metrics").text, f"{namespace}_slow_clients_total", part="write")

    before = cut_off()
    await leave_nothing_behind(service, lambda client: do_not_read(client, request), rounds)
    assert cut_off() - before >= (1 + rounds) * 100


def sum_of(metrics: str, name: str, **labels: str) -> float:
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
