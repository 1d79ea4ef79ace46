"""A TCP proxy that misbehaves on demand, between the service and its PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Forwards bytes in both directions; its methods inject faults."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._passing = asyncio.Event()
        self._passing.set()
        self._frozen: set[asyncio.Task[None]] = set()
        self._delay = 0.0
        self.before_response: Callable[[bytes], bool] | None = None
        """Called with each chunk from the server; True aborts all connections instead of forwarding it."""
        self.opened = 0

    @property
    def url(self) -> str:
        """PostgreSQL's URL through this proxy."""
        host, port = self._server.sockets[0].getsockname()[:2]
        user, _, _ = self._target.netloc.rpartition("@")
        return urlunsplit(self._target._replace(netloc=f"{user}@{host}:{port}"))

    def freeze(self) -> None:
        """Connections stay open, but nothing is forwarded any more: simulates a machine that lost power."""
        self._passing.clear()

    def freeze_open(self) -> None:
        """Open connections freeze permanently; new ones work, as after a failover."""
        self._frozen |= self._connections.keys()

    def thaw(self) -> None:
        """Forwards everything held back, and resumes forwarding."""
        self._passing.set()

    def delay(self, seconds: float) -> None:
        """Delays every chunk by this time."""
        self._delay = seconds

    def cut(self) -> None:
        """Aborts all connections immediately."""
        for writers in self._connections.values():
            for writer in writers:
                writer.transport.abort()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        try:
            yield self
        finally:
            self._server.close()
            self.thaw()
            self.cut()
            for task in list(self._connections):
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = [writer]
        self.opened += 1
        try:
            from_server, to_server = await asyncio.open_connection(self._target.hostname, self._target.port)
            self._connections[task].append(to_server)
            await asyncio.gather(
                self._pump(task, reader, to_server), self._pump(task, from_server, writer, responses=True)
            )
        except (OSError, RuntimeError, asyncio.CancelledError):  # uvloop raises RuntimeError on an aborted connection
            pass
        finally:
            for each in self._connections.pop(task):
                each.transport.abort()

    async def _pump(
        self,
        connection: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        responses: bool = False,
    ) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(self._delay)
            await self._passing.wait()
            if connection in self._frozen:
                await asyncio.Event().wait()
            if responses and self.before_response is not None and self.before_response(data):
                self.cut()
                return
            writer.write(data)
            await writer.drain()
        writer.close()
