"""uvicorn's client connection, with limits on request headers and a write timeout for clients that do not read.

uvicorn has no timeout for the first byte of a connection or the end of a request's headers, and its parser accepts
headers of any size (https://github.com/encode/uvicorn/issues/157). It also keeps a response indefinitely if the client
does not read it: even closing an idle connection waits until everything is written. A middleware cannot help: it starts
after the headers have arrived, and ends when the response is in the write buffer.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from chassis.body import BODY_COMPLETE
from chassis.problems import PHRASES

MAX_JOINED_BYTES = 64 * 1024
"""Up to this size the first part of a body is copied to be written with its head."""
MAX_HEAD_BYTES = 64 * 1024
"""Limit for request line and headers together. ingress-nginx passes 32 KiB."""
HEAD_TOO_LARGE = f"Request line and headers exceed the limit of {MAX_HEAD_BYTES} bytes."
TRAILERS_TOO_LARGE = f"Trailers or chunk extensions exceed the limit of {MAX_HEAD_BYTES} bytes."
CHUNKED = b"\r\ntransfer-encoding: chunked\r\n"
INVALID = "Invalid HTTP request received."
LINGER_SECONDS = 2.0


def connection_protocol(head_seconds: float, write_seconds: float, slow_clients: Counter) -> type[asyncio.Protocol]:
    """The protocol class for uvicorn.

    head_seconds: timeout from a request's first byte to the end of its headers. write_seconds: write timeout, how long
    a client may read nothing while data is waiting for it. slow_clients: counter of timeouts, by `part`.
    """

    class BoundedConnection(_Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.head_seconds = head_seconds
            self.write_seconds = write_seconds
            self.slow_clients = slow_clients

    return BoundedConnection


class _JoinedWrites:
    """The transport of one response: writes its head together with the first part of its body.

    uvicorn writes them one after the other, which takes a twentieth of the CPU of a GET. A head without Content-Length
    is written at once: the body of a stream may come later.
    """

    __slots__ = ("_head", "_is_first", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._is_first = True
        self._head = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._is_first and b"\r\ncontent-length: " in data:
            self._head = data
        elif self._head and len(data) <= MAX_JOINED_BYTES:
            self._transport.write(self._head + data)
            self._head = b""
        else:
            self._write_head()
            self._transport.write(data)
        self._is_first = False

    def close(self) -> None:
        self._write_head()
        self._transport.close()

    def _write_head(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""


class _UnchunkedWrites(_JoinedWrites):
    """For HTTP/1.0, which has no chunks (RFC 9112, section 6.1): the end of the connection is that of the body."""

    __slots__ = ("_is_chunked",)

    def write(self, data: bytes) -> None:
        if self._is_first:
            self._is_chunked = CHUNKED in data
            data = data.replace(CHUNKED, b"\r\n")
        elif self._is_chunked:
            size, _, rest = data.partition(b"\r\n")
            data = rest[: int(size or b"0", 16)]
        super().write(data)


class _Connection(HttpToolsProtocol):
    head_seconds: float
    write_seconds: float
    slow_clients: Counter
    # Each is set before it is read.
    _last_chunk_bytes: int
    """Size of the last chunk received."""
    _first_chunk_bytes: int
    """Size of the chunk in which the head started."""
    _later_bytes: int
    """Received after that chunk, or since the last part of a body: the parser buffers an endless header or trailer."""
    _unsent_bytes: int
    """In the write buffer at the last check."""
    _running: RequestResponseCycle
    """The last request that was started; pipelined ones, the last of which is `cycle`, wait until it has ended."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._in_head = self._in_body = False
        self._head_without_offer: bytes | None = None
        """Of a request that offers another protocol, while it has to be parsed again."""
        self._rejected = False
        self._write_timer: asyncio.TimerHandle | None = None
        self._idle_since: float | None = None
        """By the event loop's clock; None while a request is in progress."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._start_keep_alive_timer()  # before the first request, too

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        self._cancel_write_timeout()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)
        if self.pipeline:  # uvicorn only ends the last one
            self._end(self._running)

    def data_received(self, data: bytes) -> None:
        # Most heads arrive in one chunk, which needs no timer and no count: saves 2 µs of CPU per request.
        if self._rejected:
            return
        self._last_chunk_bytes = len(data)
        if self._in_head or self._in_body:
            self._later_bytes += len(data)
        self._idle_since = None
        try:
            self._parse(data)
        except httptools.HttpParserError:
            if not self._rejected:
                self.logger.warning(INVALID)
                self._reject(400, INVALID)
        if self._rejected:
            return
        if self._in_head and self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self._on_head_timeout)
        if self._in_head or self._in_body:
            if self._later_bytes > MAX_HEAD_BYTES:
                self._reject(431, HEAD_TOO_LARGE if self._in_head else TRAILERS_TOO_LARGE)
        elif self.cycle is None or self.cycle.response_complete:
            # The parser ignores an empty line before a request, which is no end of the idle time.
            self._start_keep_alive_timer()

    def _parse(self, data: bytes) -> None:
        """Ignores an offer of another protocol, as in the first request of Java's HTTP client, which then gets an
        HTTP/1.1 response (RFC 9110, section 7.8).

        The parser ends after the head that has one, or a CONNECT: without the body, which uvicorn loses with all that
        follows (https://github.com/encode/uvicorn/issues/2722). So the request is parsed again without the offer.
        """
        rest: bytes | memoryview = data
        while rest:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                rest = memoryview(rest)[upgrade.args[0] :]
            head, self._head_without_offer = self._head_without_offer, None
            if head is not None:
                self.parser.feed_data(head)

    def _start_keep_alive_timer(self) -> None:
        """uvicorn stops and starts a timer for each request, which takes a twentieth of the CPU of a GET. This one
        keeps running, and starts again if it ends too early."""
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._end_idle_after(self.timeout_keep_alive)

    def _end_idle_after(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._first_chunk_bytes = self._last_chunk_bytes
        self._later_bytes = 0

    def on_headers_complete(self) -> None:
        if self._rejected:
            return
        self._end_head()
        if self._first_chunk_bytes + self._later_bytes > MAX_HEAD_BYTES and self._head_bytes() > MAX_HEAD_BYTES:
            self._reject(431, HEAD_TOO_LARGE)
        elif self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            lines = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
            self._head_without_offer = b"".join([self._request_line(), *lines, b"\r\n"])
        else:
            self._strip_trailing_whitespace()
            super().on_headers_complete()
            # Trailers are not merged into the headers (RFC 9110, section 6.5.1): a proxy that sets or removes a header
            # may pass a trailer of that name.
            self.headers = []
            self._in_body = True
            self._later_bytes = 0
            if self.scope["method"] != "HEAD":  # has no body to wait for
                writes = _UnchunkedWrites if self.scope["http_version"] == "1.0" else _JoinedWrites
                self.cycle.transport = cast("asyncio.Transport", writes(self.transport))

    def _strip_trailing_whitespace(self) -> None:
        """Removes trailing whitespace, which is not part of a field value (RFC 9110, section 5.5): the parser keeps it.

        An Idempotency-Key with a trailing space was rejected (findings/httptools-space-behind-a-value.sh).
        """
        for index, (name, value) in enumerate(self.headers):
            if value.endswith((b" ", b"\t")):
                self.headers[index] = (name, value.rstrip(b" \t"))

    def _request_line(self) -> bytes:
        return b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())

    def _head_bytes(self) -> int:
        return len(self._request_line()) + sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        self._later_bytes = 0
        if not self._rejected:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._rejected and self._head_without_offer is None:
            self._in_body = False
            super().on_message_complete()
            self.scope["state"][BODY_COMPLETE] = True  # for EdgeMiddleware

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timeout()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._cancel_write_timeout()

    # Closing a connection waits until the client has read the rest of the write buffer, however little that is.

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return  # starts again after the response
        remaining = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if remaining > 0:
            self._end_idle_after(remaining)
            return
        super().timeout_keep_alive_handler()
        self._start_write_timeout()

    def on_response_complete(self) -> None:
        """As uvicorn's, but for the timers and the count of requests, which nothing reads here."""
        if self.transport.is_closing():
            self._start_write_timeout()
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._start_keep_alive_timer()

    def _start_write_timeout(self) -> None:
        if self._write_timer is None:
            self._unsent_bytes = self.transport.get_write_buffer_size()
            self._write_timer = self.loop.call_later(self.write_seconds, self._check_write_progress)

    def _check_write_progress(self) -> None:
        self._write_timer = None
        if self.transport.get_write_buffer_size() < self._unsent_bytes:
            self._start_write_timeout()
        else:
            self.slow_clients.labels("write").inc()
            self.transport.abort()

    def _cancel_write_timeout(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _on_head_timeout(self) -> None:
        self.slow_clients.labels("head").inc()
        self._reject(408, f"The headers did not arrive within {self.head_seconds:g} s.")

    def _reject(self, status: int, detail: str) -> None:
        """Ignores the rest of the request, and closes the connection after an error response or, while responses to
        previous requests are in progress, after those: the client would take ours for one of them."""
        self._end_head()
        self._rejected = True
        if self._in_body:
            self._discard_last_request()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        elif not self.transport.is_closing():
            response = (
                f"HTTP/1.1 {status} {PHRASES[status]}\r\nconnection: close\r\n"
                f"content-type: text/plain; charset=utf-8\r\ncontent-length: {len(detail)}\r\n\r\n{detail}"
            )
            self.transport.write(response.encode())
            # Closed immediately, the connection would be reset while the client is still sending, and the client would
            # not see the response (RFC 9112, section 9.6). It ends when the client closes it, or after LINGER_SECONDS.
            self.transport.write_eof()
            self._linger_timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _discard_last_request(self) -> None:
        """Its body is invalid. It is in progress, unless it is pipelined."""
        if self.pipeline:
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._running
        elif not self.cycle.response_started:
            self.cycle.response_complete = True
            self._end(self.cycle)

    def _end(self, cycle: RequestResponseCycle) -> None:
        """The application learns that the client is gone, and what it sends is discarded."""
        cycle.disconnected = True
        cycle.message_event.set()

    def _end_head(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
