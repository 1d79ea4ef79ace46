"""The protocol of a client connection, with a fake transport and timers that expire when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from hello.service import Hello
from prometheus_client import REGISTRY
from starlette.types import Receive, Scope, Send
from transports import Transport
from uvicorn.server import ServerState

from chassis.body import BODY_COMPLETE
from chassis.connection import (
    HEAD_TOO_LARGE,
    INVALID,
    LINGER_SECONDS,
    MAX_HEAD_BYTES,
    TRAILERS_TOO_LARGE,
    connection_protocol,
)

KEEP_ALIVE_SECONDS, HEAD_SECONDS, WRITE_SECONDS = 5, 10.0, 20.0
"""All different, and different from LINGER_SECONDS: they tell the timers apart."""

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST_GET = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
TOO_LARGE = b"GET / HTTP/1.1\r\na: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n"


def error_response(status: str, text: str) -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(text)}\r\n\r\n{text}"
    ).encode()


class Timer:
    def __init__(self, seconds: float, expire: Callable[[], object]) -> None:
        self.seconds = seconds
        self.expire = expire
        self.is_pending = True

    def cancel(self) -> None:
        self.is_pending = False


class Loop:
    """The event loop, except for its clock and timers."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.now = 1000.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        self.timers.append(Timer(seconds, callback))
        return self.timers[-1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop, name)


class Connection:
    """A connection to an application that responds to all requests with 204, once `responding` is set."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.responding = asyncio.Event()
        self.responding.set()
        self.state = ServerState()
        self.transport = Transport()
        self.loop = Loop()
        config = uvicorn.Config(
            self._respond, interface="asgi3", timeout_keep_alive=KEEP_ALIVE_SECONDS, log_config=None
        )
        config.load()
        create: Callable[..., Any] = connection_protocol(HEAD_SECONDS, WRITE_SECONDS, Hello.metrics.slow_clients_total)
        self.protocol = create(config=config, server_state=self.state, app_state={}, _loop=self.loop)
        self.protocol.connection_made(self.transport)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.receive_body = receive
        await self.responding.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive(self, *pieces: bytes) -> None:
        """Receives them one after the other, and does what can be done without a timer."""
        for piece in pieces:
            self.protocol.data_received(piece)
        await self.run()

    async def run(self, steps: int = 10) -> None:
        for _ in range(steps):
            await asyncio.sleep(0)

    @property
    def pending(self) -> list[float]:
        """The seconds of its pending timers."""
        return [timer.seconds for timer in self.loop.timers if timer.is_pending]

    def expire(self, seconds: float) -> None:
        """Lets its one timer of so many seconds expire, which was started just now."""
        (timer,) = (timer for timer in self.loop.timers if timer.is_pending and timer.seconds == seconds)
        self.loop.now += seconds
        timer.is_pending = False
        timer.expire()


@pytest.fixture
async def connection() -> Connection:
    return Connection()


def slow_clients(part: str) -> float:
    return REGISTRY.get_sample_value("hello_slow_clients_total", {"part": part}) or 0


# --- The head --------------------------------------------------------------------------------------------------------


async def test_a_head_in_one_piece_needs_no_timer(connection: Connection) -> None:
    assert connection.pending == [KEEP_ALIVE_SECONDS]
    await connection.receive(GET)
    assert connection.transport.written.startswith(b"HTTP/1.1 204 ")
    assert [timer.seconds for timer in connection.loop.timers] == [KEEP_ALIVE_SECONDS]
    assert connection.pending == [KEEP_ALIVE_SECONDS]


async def test_the_application_learns_that_a_body_is_complete(connection: Connection) -> None:
    connection.responding.clear()
    await connection.receive(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{")
    (scope,) = connection.scopes
    assert BODY_COMPLETE not in scope["state"]
    await connection.receive(b"}")
    assert scope["state"][BODY_COMPLETE] is True
    assert await connection.receive_body() == {"type": "http.request", "body": b"{}", "more_body": False}


async def test_each_head_in_pieces_has_one_timeout(connection: Connection) -> None:
    for _ in range(2):
        await connection.receive(GET[:5], GET[5:9])
        assert connection.pending == [KEEP_ALIVE_SECONDS, HEAD_SECONDS]
        await connection.receive(GET[9:])
        assert connection.pending == [KEEP_ALIVE_SECONDS]


@pytest.mark.parametrize("before", [b"", GET], ids=["first", "after a response"])
async def test_a_slow_head_gets_408_and_the_connection_lingers(connection: Connection, before: bytes) -> None:
    await connection.receive(before or b"\r\n")
    connection.transport.writes.clear()
    count = slow_clients("head")
    await connection.receive(GET[:9])
    connection.expire(HEAD_SECONDS)
    assert slow_clients("head") == count + 1
    expected = error_response("408 Request Timeout", "The headers did not arrive within 10 s.")
    assert connection.transport.written == expected
    assert connection.transport.has_ended
    assert not connection.transport.aborted
    assert connection.pending == [KEEP_ALIVE_SECONDS, LINGER_SECONDS]
    scopes = len(connection.scopes)
    await connection.receive(GET[9:], b"\0")
    assert (connection.transport.written, len(connection.scopes)) == (expected, scopes)
    connection.expire(LINGER_SECONDS)
    assert connection.transport.aborted


async def test_a_slow_head_on_a_closing_connection_gets_no_response(connection: Connection) -> None:
    await connection.receive(GET[:9])
    connection.transport.close()
    connection.expire(HEAD_SECONDS)
    assert connection.transport.written == b""
    assert not connection.transport.has_ended


async def test_a_slow_head_does_not_interrupt_the_response_before_it(connection: Connection) -> None:
    connection.responding.clear()
    await connection.receive(GET, GET[:9])
    connection.expire(HEAD_SECONDS)
    assert connection.transport.written == b""
    assert not connection.transport.has_ended
    connection.responding.set()
    await connection.run()
    assert connection.transport.written.startswith(b"HTTP/1.1 204 ")
    assert b"408" not in connection.transport.written
    assert connection.transport.closing


def head_of(size: int, name: bytes = b"a") -> bytes:
    """A request whose request line and header lines have this size, mostly of the header's value."""
    line = b"GET / HTTP/1.1\r\n"
    return line + name + b": " + b"x" * (size - len(line) - len(name) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("pieces", [1, 2, 20])
@pytest.mark.parametrize("name", [b"a", b"a" * 1000], ids=["short name", "long name"])
async def test_a_head_has_a_maximum_size_in_any_pieces(pieces: int, name: bytes) -> None:
    for size, is_accepted in ((MAX_HEAD_BYTES, True), (MAX_HEAD_BYTES + 1, False)):
        connection, head = Connection(), head_of(size, name)
        length = -(-len(head) // pieces)
        await connection.receive(*(head[i : i + length] for i in range(0, len(head), length)))
        if is_accepted:
            assert connection.transport.written.startswith(b"HTTP/1.1 204 ")
        else:
            assert connection.transport.written == error_response("431 Request Header Fields Too Large", HEAD_TOO_LARGE)
            assert LINGER_SECONDS in connection.pending


async def test_an_unfinished_head_has_a_maximum_size(connection: Connection) -> None:
    await connection.receive(b"GET / HTTP/1.1\r\na: ", b"x" * MAX_HEAD_BYTES)
    assert connection.transport.written == b""
    await connection.receive(b"x")
    assert connection.pending == [KEEP_ALIVE_SECONDS, LINGER_SECONDS]
    assert connection.transport.written == error_response("431 Request Header Fields Too Large", HEAD_TOO_LARGE)


async def test_a_body_in_the_same_piece_does_not_count(connection: Connection) -> None:
    body = b"x" * 2 * MAX_HEAD_BYTES
    await connection.receive(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body) + GET)
    assert connection.transport.written.count(b"HTTP/1.1 204 ") == 2


@pytest.mark.parametrize(
    "rest",
    [GET, b"5\r\nhello\r\n0\r\n\r\n" + GET, b"\0"],
    ids=["another request", "a body and another request", "invalid"],
)
async def test_what_follows_a_rejected_head_in_the_same_piece_is_ignored(connection: Connection, rest: bytes) -> None:
    head = TOO_LARGE if rest in (GET, b"\0") else TOO_LARGE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
    await connection.receive(head + rest)
    assert connection.transport.written == error_response("431 Request Header Fields Too Large", HEAD_TOO_LARGE)
    assert connection.scopes == []


async def test_trailing_whitespace_of_a_header_value_is_removed(connection: Connection) -> None:
    await connection.receive(b"GET / HTTP/1.1\r\nA: one \t\r\nB: t w o\r\n\r\n")
    (scope,) = connection.scopes
    assert scope["headers"] == [(b"a", b"one"), (b"b", b"t w o")]


# --- What httptools does differently ---------------------------------------------------------------------------------

OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"


@pytest.mark.parametrize("length", [1, 7, 10_000], ids=["byte by byte", "in pieces", "at once"])
@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
    ids=["with a length", "in chunks"],
)
async def test_a_request_that_offers_http_2_keeps_its_body(connection: Connection, body: bytes, length: int) -> None:
    """As the first one of Java's HTTP client, or of `curl --http2`."""
    connection.responding.clear()
    data = b"POST /first HTTP/1.1\r\nHost: x\r\n" + OFFER + body
    await connection.receive(*(data[i : i + length] for i in range(0, len(data), length)))
    assert await connection.receive_body() == {"type": "http.request", "body": b"hello", "more_body": False}
    (scope,) = connection.scopes
    assert (scope["method"], scope["path"], scope["http_version"]) == ("POST", "/first", "1.1")
    assert (b"host", b"x") in scope["headers"]
    assert scope["state"][BODY_COMPLETE] is True
    connection.responding.set()
    await connection.receive(GET)
    assert connection.transport.written.count(b"HTTP/1.1 204 ") == 2
    assert connection.pending == [KEEP_ALIVE_SECONDS]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n" + OFFER + b"\r\n",
        b"POST / HTTP/1.1\r\n" + OFFER + b"Content-Length: 5\r\n\r\nhello",
        b"CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["upgrade", "upgrade with a body", "CONNECT"],
)
async def test_requests_behind_one_that_ends_the_parsing_get_their_responses(
    connection: Connection, request_: bytes
) -> None:
    connection.responding.clear()
    await connection.receive(2 * request_ + GET, GET)
    connection.responding.set()
    await connection.run(100)
    assert connection.transport.written.count(b"HTTP/1.1 204 ") == 4


async def test_a_head_that_is_too_large_is_rejected_once_though_it_offers_http_2(connection: Connection) -> None:
    await connection.receive(TOO_LARGE[:-2] + OFFER + b"\r\n" + GET)
    assert connection.transport.written == error_response("431 Request Header Fields Too Large", HEAD_TOO_LARGE)
    assert connection.scopes == []


CHUNKED = b"POST / HTTP/1.1\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("pieces", [1, 2])
async def test_trailers_are_not_headers(connection: Connection, pieces: int) -> None:
    """They pass proxies that set or remove the header of that name."""
    connection.responding.clear()
    trailers = b"0\r\nX-Forwarded-For: 192.0.2.1\r\nAuthorization: Bearer x\r\n\r\n"
    data = [CHUNKED, b"5\r\nhello\r\n" + trailers]
    await connection.receive(*(data if pieces == 2 else [b"".join(data)]))
    assert await connection.receive_body() == {"type": "http.request", "body": b"hello", "more_body": False}
    (scope,) = connection.scopes
    assert scope["headers"] == [(b"a", b"b"), (b"transfer-encoding", b"chunked")]
    connection.responding.set()
    await connection.receive(GET)
    assert connection.transport.written.count(b"HTTP/1.1 204 ") == 2


@pytest.mark.parametrize("chunks", [[], [b"5\r\nhello\r\n"]], ids=["no chunk", "a chunk"])
@pytest.mark.parametrize(
    "before",
    [b"0\r\na: ", b"0\r\n" + b"a: b\r\n" * 100, b"5;a="],
    ids=["a trailer", "many trailers", "an extension"],
)
async def test_what_surrounds_the_chunks_of_a_body_has_a_maximum_size(
    connection: Connection, chunks: list[bytes], before: bytes
) -> None:
    """The parser buffers an endless trailer."""
    connection.responding.clear()
    await connection.receive(CHUNKED, *chunks, before)
    await connection.receive(b"x" * (MAX_HEAD_BYTES - len(before)))
    assert connection.transport.written == b""
    await connection.receive(b"x")
    assert connection.transport.written == error_response("431 Request Header Fields Too Large", TRAILERS_TOO_LARGE)
    assert LINGER_SECONDS in connection.pending


@pytest.mark.parametrize(
    ("head", "piece", "end"),
    [
        (CHUNKED, b"5\r\nhello\r\n", b"0\r\n\r\n"),
        (CHUNKED, b"5;a=b\r\nhello\r\n", b"0\r\na: b\r\n\r\n"),
        (b"POST / HTTP/1.1\r\nContent-Length: 500000\r\n\r\n", b"hello", b""),
    ],
    ids=["chunks", "extensions", "length"],
)
async def test_the_chunks_of_a_body_may_be_small(connection: Connection, head: bytes, piece: bytes, end: bytes) -> None:
    connection.responding.clear()
    body = 100_000 * piece + end
    await connection.receive(head, *(body[i : i + 50_000] for i in range(0, len(body), 50_000)))
    assert await connection.receive_body() == {"type": "http.request", "body": b"hello" * 100_000, "more_body": False}


async def test_a_head_does_not_count_towards_the_size_of_trailers(connection: Connection) -> None:
    connection.responding.clear()
    head = CHUNKED.replace(b"b", b"b" * (MAX_HEAD_BYTES - 100))
    await connection.receive(head[:9], head[9:], b"0\r\na: ", b"b" * (MAX_HEAD_BYTES - 100), b"\r\n\r\n")
    assert await connection.receive_body() == {"type": "http.request", "body": b"", "more_body": False}


# --- Invalid requests ------------------------------------------------------------------------------------------------

BAD_REQUEST = error_response("400 Bad Request", INVALID)
INVALID_BODY = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n"


@pytest.mark.parametrize("before", [[], [GET]], ids=["first", "after a response"])
@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\r\n\r\n", INVALID_BODY], ids=["head", "body"])
async def test_an_invalid_request_gets_400_and_the_connection_lingers(
    connection: Connection, before: list[bytes], data: bytes
) -> None:
    await connection.receive(*before)
    connection.transport.writes.clear()
    connection.responding.clear()
    await connection.receive(data, GET)
    connection.responding.set()
    await connection.run()
    assert connection.transport.written == BAD_REQUEST
    assert connection.transport.has_ended
    assert LINGER_SECONDS in connection.pending


async def test_the_application_learns_that_no_more_of_an_invalid_body_comes(connection: Connection) -> None:
    connection.responding.clear()
    head, _, rest = INVALID_BODY.partition(b"no")
    await connection.receive(head)
    body = asyncio.ensure_future(connection.receive_body())
    await connection.receive(b"no" + rest)
    assert body.done()
    assert await body == {"type": "http.disconnect"}


async def test_an_invalid_body_does_not_interrupt_its_own_response_that_has_begun(connection: Connection) -> None:
    connection.responding.clear()
    head, _, rest = INVALID_BODY.partition(b"no")
    await connection.receive(head)
    send = connection.protocol.cycle.send
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await connection.receive(b"no" + rest)
    await send({"type": "http.response.body", "body": b"hello"})
    assert connection.transport.written == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
    assert connection.transport.closing


@pytest.mark.parametrize("requests", [1, 2, 3])
@pytest.mark.parametrize("data", [b"\0", INVALID_BODY], ids=["head", "body"])
@pytest.mark.parametrize("together", [False, True])
async def test_an_invalid_request_does_not_replace_or_interrupt_the_responses_before_it(
    connection: Connection, data: bytes, requests: int, together: bool
) -> None:
    connection.responding.clear()
    pieces = [GET] * requests + [data]
    await connection.receive(*([b"".join(pieces)] if together else pieces))
    assert connection.transport.written == b""
    connection.responding.set()
    await connection.run(100)
    assert connection.transport.written.count(b"HTTP/1.1 ") == connection.transport.written.count(b" 204 ") == requests
    assert connection.transport.closing
    assert len(connection.scopes) == requests


# --- Idle connections ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [[], [GET]], ids=["first", "after a response"])
async def test_an_empty_line_restarts_the_keep_alive_timeout(connection: Connection, before: list[bytes]) -> None:
    await connection.receive(*before)
    await connection.receive(b"\r\n")
    assert connection.pending == [KEEP_ALIVE_SECONDS]
    connection.expire(KEEP_ALIVE_SECONDS)
    assert connection.transport.closing


async def test_an_empty_line_during_a_response_does_not_limit_its_duration(connection: Connection) -> None:
    connection.responding.clear()
    await connection.receive(GET, b"\r\n")
    connection.expire(KEEP_ALIVE_SECONDS)
    assert not connection.transport.closing
    connection.responding.set()
    await connection.run()
    assert connection.pending == [KEEP_ALIVE_SECONDS]


@pytest.mark.parametrize("age", [4, 0.5])
async def test_idle_time_counts_from_the_end_of_the_last_response(connection: Connection, age: float) -> None:
    """age: of the connection and its timer, at that time."""
    connection.loop.now += age
    await connection.receive(GET)
    connection.loop.now -= age
    connection.expire(KEEP_ALIVE_SECONDS)
    assert not connection.transport.closing
    assert connection.pending == [age]
    connection.expire(age)
    assert connection.transport.closing


async def test_a_pipelined_request_pauses_reading_until_its_turn(connection: Connection) -> None:
    connection.responding.clear()
    await connection.receive(GET, GET)
    assert not connection.transport.reading
    connection.responding.set()
    await connection.run()
    assert connection.transport.reading
    assert len(connection.scopes) == 2


async def test_a_pipelined_request_on_a_closing_connection_is_not_served(connection: Connection) -> None:
    connection.responding.clear()
    await connection.receive(GET, GET)
    connection.transport.close()
    connection.responding.set()
    await connection.run()
    assert len(connection.scopes) == 1


async def test_a_rejected_head_does_not_count_as_idle(connection: Connection) -> None:
    await connection.receive(TOO_LARGE)
    connection.expire(KEEP_ALIVE_SECONDS)
    assert connection.pending == [LINGER_SECONDS]


@pytest.mark.parametrize(
    ("received", "timer"),
    [(b"\r\n", KEEP_ALIVE_SECONDS), (GET[:9], HEAD_SECONDS), (TOO_LARGE, LINGER_SECONDS), (LAST_GET, WRITE_SECONDS)],
    ids=["idle", "in the head", "rejected", "not read"],
)
async def test_a_lost_connection_leaves_no_timer(received: bytes, timer: float, connection: Connection) -> None:
    """It would count a slow client later."""
    await connection.receive(received)
    assert timer in connection.pending
    connection.protocol.connection_lost(ConnectionResetError())
    assert connection.pending == []
    assert connection.state.connections == set()


@pytest.mark.parametrize("pipelined", [0, 1, 2])
async def test_a_lost_connection_ends_the_request_in_progress_though_others_wait_behind_it(
    connection: Connection, pipelined: int
) -> None:
    """A stream failed with a traceback: it wrote to a closed transport."""
    connection.responding.clear()
    await connection.receive(GET, *[GET] * pipelined)
    assert (await connection.receive_body())["type"] == "http.request"
    end = asyncio.ensure_future(connection.receive_body())
    await connection.run()
    connection.transport.close()
    connection.protocol.connection_lost(ConnectionResetError())
    connection.responding.set()
    await connection.run()
    assert end.done()
    assert await end == {"type": "http.disconnect"}
    assert connection.transport.written == b""
    assert connection.pending == []
    assert len(connection.scopes) == 1


# --- Clients that do not read ----------------------------------------------------------------------------------------


async def test_a_client_that_reads_nothing_is_cut_off_after_the_write_timeout(connection: Connection) -> None:
    count = slow_clients("write")
    connection.transport.unsent = 100
    connection.protocol.pause_writing()
    assert connection.protocol.flow.write_paused
    for connection.transport.unsent in (99, 1):  # it reads slowly
        connection.expire(WRITE_SECONDS)
        assert not connection.transport.aborted
    assert slow_clients("write") == count
    connection.expire(WRITE_SECONDS)
    assert connection.transport.aborted
    assert slow_clients("write") == count + 1
    assert connection.pending == [KEEP_ALIVE_SECONDS]


async def test_a_client_that_reads_again_has_no_write_timeout(connection: Connection) -> None:
    for _ in range(2):
        connection.protocol.pause_writing()
        assert connection.pending == [KEEP_ALIVE_SECONDS, WRITE_SECONDS]
        connection.protocol.resume_writing()
        assert not connection.protocol.flow.write_paused
        assert connection.pending == [KEEP_ALIVE_SECONDS]


async def test_an_idle_connection_is_closed_within_the_write_timeout(connection: Connection) -> None:
    connection.expire(KEEP_ALIVE_SECONDS)
    assert connection.transport.closing
    assert connection.pending == [WRITE_SECONDS]
    # Less than the low-water mark is unsent now, but closing waits for all of it.
    connection.protocol.pause_writing()
    connection.protocol.resume_writing()
    assert connection.pending == [WRITE_SECONDS]


async def test_a_connection_is_closed_within_the_write_timeout_after_its_last_response(connection: Connection) -> None:
    await connection.receive(LAST_GET)
    assert connection.transport.written.startswith(b"HTTP/1.1 204 ")
    assert connection.transport.closing
    assert WRITE_SECONDS in connection.pending


async def test_a_connection_that_stays_open_has_no_write_timeout_after_a_response(connection: Connection) -> None:
    await connection.receive(GET)
    assert not connection.transport.closing
    assert connection.pending == [KEEP_ALIVE_SECONDS]
