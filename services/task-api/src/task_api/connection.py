"""A client's connection: uvicorn's, with bounds for the head of a request.

uvicorn waits for ever for the first byte of a connection and for the end of a request's headers, and its parser takes
headers of any size (https://github.com/encode/uvicorn/issues/157). No middleware can help: it runs once the headers
are there.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from task_api import metrics

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers together. ingress-nginx lets 32 KiB through."""


def bounded(head_seconds: float) -> type[asyncio.Protocol]:
    """The protocol class for uvicorn. head_seconds: from a request's first byte to the end of its headers."""

    class Bounded(_Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.head_seconds = head_seconds

    return Bounded


class _Connection(HttpToolsProtocol):
    head_seconds: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        # One that never sends anything is as idle as one between two requests.
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_deadline is not None:  # the headers go on
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, "Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._head_deadline = self.loop.call_later(self.head_seconds, self._too_slow)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._head_bytes += len(name) + len(value)

    def on_headers_complete(self) -> None:
        self._end_head()
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, "Request Header Fields Too Large")
        elif not self.transport.is_closing():
            super().on_headers_complete()

    def _too_slow(self) -> None:
        metrics.slow_clients_total.labels("head").inc()
        self._refuse(408, "Request Timeout")

    def _refuse(self, status: int, phrase: str) -> None:
        """Answers what is not a request yet, and closes the connection."""
        self._end_head()
        if not self.transport.is_closing():
            answer = f"HTTP/1.1 {status} {phrase}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(answer.encode())
            self.transport.close()

    def _end_head(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None
