"""A client's connection: uvicorn's, with bounds for the head of a request and for a client that does not read.

uvicorn waits for ever for the first byte of a connection and for the end of a request's headers, and its parser takes
headers of any size (https://github.com/encode/uvicorn/issues/157). It also keeps an answer for ever that its client
does not read: even what closes an idle connection waits until all is written. No middleware can help: it runs once the
headers are there, and is done once the answer is handed over.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chassis.problems import PHRASES

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers together. ingress-nginx lets 32 KiB through."""
TOO_LARGE = f"Request line and headers have more than {MAX_HEAD_BYTES} bytes, which is the most that is taken."
LINGER_SECONDS = 2.0


def bounded(head_seconds: float, write_seconds: float, slow_clients: Counter) -> type[asyncio.Protocol]:
    """The protocol class for uvicorn.

    head_seconds: from a request's first byte to the end of its headers. write_seconds: how long a client may read
    nothing of what waits for it. slow_clients: counts those who were too slow, by `part`.
    """

    class Bounded(_Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.head_seconds = head_seconds
            self.write_seconds = write_seconds
            self.slow_clients = slow_clients

    return Bounded


class _Connection(HttpToolsProtocol):
    head_seconds: float
    write_seconds: float
    slow_clients: Counter

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_deadline: asyncio.TimerHandle | None = None
        self._in_head = False
        self._piece_bytes = 0  # of what was received last
        self._first_bytes = 0  # of the piece in which the head began
        self._more_bytes = 0  # of what came since that piece: the parser keeps a header that never ends
        self._refused = False
        self._unread = 0  # bytes that waited for the client when it was last looked at
        self._read_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._be_idle()  # one that never sends anything is as idle as one between two requests

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        self._stop_watching()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # Most heads come in one piece, which needs no deadline and no count: 2 µs less of CPU for each request.
        if self._refused:
            return
        self._piece_bytes = len(data)
        if self._in_head:
            self._more_bytes += len(data)
        super().data_received(data)
        if self._in_head and not self._refused:
            if self._head_deadline is None:
                self._head_deadline = self.loop.call_later(self.head_seconds, self._too_slow)
            if self._more_bytes > MAX_HEAD_BYTES:
                self._refuse(431, TOO_LARGE)
        elif self.timeout_keep_alive_task is None and (self.cycle is None or self.cycle.response_complete):
            # The parser ignores an empty line before a request, but uvicorn has already stopped its idle timer.
            self._be_idle()

    def _be_idle(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._first_bytes = self._piece_bytes
        self._more_bytes = 0

    def on_headers_complete(self) -> None:
        if self._refused:
            return
        self._end_head()
        if self._first_bytes + self._more_bytes > MAX_HEAD_BYTES and self._head_bytes() > MAX_HEAD_BYTES:
            self._refuse(431, TOO_LARGE)
        else:
            self._strip_values()
            super().on_headers_complete()

    def _strip_values(self) -> None:
        """Takes off white space behind a value, which is no part of it (RFC 9110, section 5.5): the parser leaves it.

        An Idempotency-Key with a space behind it was refused (findings/httptools-space-behind-a-value.sh).
        """
        for place, (name, value) in enumerate(self.headers):
            if value.endswith((b" ", b"\t")):
                self.headers[place] = (name, value.rstrip(b" \t"))

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._refused:
            super().on_message_complete()
            self.scope["state"]["body_is_here"] = True  # for Edge

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: Java's HTTP client offers HTTP/2 with its first request, and is answered in HTTP/1.1."""

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_watching()

    # What closes a connection waits until the client has read the rest, however little it is.

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_reading()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_reading()

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(msg)
        self._watch_reading()

    def _watch_reading(self) -> None:
        if self._read_deadline is None:
            self._unread = self.transport.get_write_buffer_size()
            self._read_deadline = self.loop.call_later(self.write_seconds, self._look_whether_it_reads)

    def _look_whether_it_reads(self) -> None:
        self._read_deadline = None
        if self.transport.get_write_buffer_size() < self._unread:
            self._watch_reading()
        else:
            self.slow_clients.labels("write").inc()
            self.transport.abort()

    def _stop_watching(self) -> None:
        if self._read_deadline is not None:
            self._read_deadline.cancel()
            self._read_deadline = None

    def _too_slow(self) -> None:
        self.slow_clients.labels("head").inc()
        self._refuse(408, f"The headers did not arrive within {self.head_seconds:g} s.")

    def _refuse(self, status: int, detail: str) -> None:
        """Answers what is not a request yet, and reads no more of it."""
        self._end_head()
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False  # an answer of our own would be taken for that of the request before
        elif not self.transport.is_closing():
            answer = (
                f"HTTP/1.1 {status} {PHRASES[status]}\r\nconnection: close\r\n"
                f"content-type: text/plain; charset=utf-8\r\ncontent-length: {len(detail)}\r\n\r\n{detail}"
            )
            self.transport.write(answer.encode())
            # Closed at once, the connection would be reset while the client still sends, and the client would not see
            # the answer (RFC 9112, 9.6). It ends when the client closes it, or after LINGER_SECONDS.
            self.transport.write_eof()
            self._head_deadline = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _end_head(self) -> None:
        self._in_head = False
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None
