"""Limits on bodies, headers and slow clients, and that rejected clients leak no resources."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import httpx2
import pytest
import uvicorn
from bad_clients import (
    FREED_AT_ONCE,
    MIB,
    Client,
    assert_no_leaks,
    assert_slow_readers_are_cut_off,
    connected,
    connection_to,
    trickling,
)
from hello.service import Hello, Settings
from programs import DEADLINE_SECONDS, Service
from prometheus_client import REGISTRY
from running import serving
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from chassis.app import create_app
from chassis.body import MAX_DISCARD_BYTES
from chassis.connection import MAX_HEAD_BYTES, connection_protocol

SMALL = 100_000
PIECE = 128 * 1024
IMPATIENT = {
    **{f"HELLO_{name}_SECONDS": "0.5" for name in ("HEAD", "BODY", "WRITE")},
    "HELLO_BODY_MAX_BYTES": str(SMALL),
    **FREED_AT_ONCE,
}
POST = b"POST /v1/hello HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """The service with default settings."""
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def impatient() -> Iterator[Service]:
    """The service with short timeouts and a small body limit."""
    with serving(**IMPATIENT) as running:
        yield running


def with_content_length(body: bytes) -> bytes:
    """A request with this body and a Content-Length."""
    return POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def chunked(body: bytes) -> bytes:
    """A request with this body in chunks, without a Content-Length."""
    pieces = [body[i : i + 50_000] for i in range(0, len(body), 50_000)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


# --- The body --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [with_content_length, chunked])
async def test_a_body_of_one_mebibyte_is_accepted_and_one_byte_more_is_rejected(
    service: Service, form: Callable[[bytes], bytes]
) -> None:
    async with connected(service) as client:
        await client.send(form(b'{"name": "x"}'.ljust(MIB)))
        assert (await client.response()).status == 201
        await client.send(form(b'{"name": "x"}'.ljust(MIB + 1)))  # sends everything before reading
        response = await client.response()
        assert response.status == 413
        assert response.problem()["type"] == "/problems/body-too-large"
        assert f"{MIB} bytes" in response.problem()["detail"]
        assert response.headers["connection"] == "close"
        assert await client.is_closed()


async def test_expect_100_continue_is_handled_before_the_body_is_sent(service: Service) -> None:
    async with connected(service) as client:
        await client.send(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (2 * MIB))
        assert (await client.response()).status == 413
    async with connected(service) as client:
        body = b'{"name": "x"}'
        await client.send(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert (await client.response()).status == 100
        await client.send(body)
        assert (await client.response()).status == 201


async def test_an_endless_body_is_cut_off(service: Service) -> None:
    async with connected(service) as client:
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 10 * MAX_DISCARD_BYTES:
                await client.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                sent += 65536
        assert MAX_DISCARD_BYTES < sent < MAX_DISCARD_BYTES + 16 * MIB  # plus socket buffers


@pytest.mark.parametrize("form", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_trickling_body_gets_408(impatient: Service, form: str) -> None:
    async with connected(impatient) as client:
        await client.send(POST + form.encode() + b"\r\n\r\n")
        async with trickling(client, b"1\r\nx\r\n"):
            response = await client.response()
        assert response.status == 408
        assert response.problem()["type"] == "/problems/body-too-slow"
        assert await client.is_closed()


# --- The head --------------------------------------------------------------------------------------------------------


async def test_trickling_headers_get_408(impatient: Service) -> None:
    async with connected(impatient) as client:
        await client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        async with trickling(client, b"a: b\r\n"):
            response = await client.response()
            assert response.status == 408
            assert b"0.5 s" in response.content
            assert await client.is_closed()


async def test_idle_time_between_requests_does_not_count_towards_the_header_timeout(impatient: Service) -> None:
    async with connected(impatient) as client:
        for _ in range(2):
            await client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.response()).status == 200
            await asyncio.sleep(0.7)


NEVER_ENDING = b"GET /livez HTTP/1.1\r\nHost: x\r\na: " + b"x" * 4 * MIB


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.1\r\nHost: x\r\na: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * MAX_HEAD_BYTES + b"\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * (MAX_HEAD_BYTES // 4) + b"\r\n",
        b"GET /" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        with_content_length(b"{}").replace(b"\r\n\r\n", b"\r\na: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n"),
        NEVER_ENDING,
    ],
    ids=["one huge header", "many headers", "many short headers", "a huge path", "with a body", "one that never ends"],
)
async def test_headers_over_64_kib_get_431(service: Service, head: bytes) -> None:
    async with connected(service) as client:
        await client.send(head)  # sends everything before reading
        response = await client.response()
        assert response.status == 431
        assert str(MAX_HEAD_BYTES).encode() in response.content
        assert await client.is_closed()
    assert not any("Invalid HTTP" in line for line in service.log)


async def test_headers_below_64_kib_are_accepted_in_any_pieces(service: Service) -> None:
    async with connected(service) as client:
        await client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        for number in range(6):
            await client.send(b"a%d: %b\r\n" % (number, b"x" * 10_000))
            await asyncio.sleep(0.02)  # so that the service reads them individually
        await client.send(b"\r\n")
        assert (await client.response()).status == 200


@pytest.mark.parametrize("space", [b" ", b"\t", b" \t "], ids=["space", "tab", "both"])
async def test_trailing_whitespace_of_a_header_value_is_stripped(service: Service, space: bytes) -> None:
    async with connected(service) as client:
        await client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\nA:\r\nX-Request-Id: mine" + space + b"\r\n\r\n")
        assert (await client.response()).headers["x-request-id"] == "mine"


async def test_a_body_does_not_count_towards_the_size_of_the_next_headers(service: Service) -> None:
    async with connected(service) as client:
        await client.send(with_content_length(b'{"name": "x"}'.ljust(200_000)) + b"GET /livez HTTP/1.1\r\nHost")
        assert (await client.response()).status == 201
        await client.send(b": x\r\n\r\n")
        assert (await client.response()).status == 200


IDLE_SECONDS = 1


@pytest.mark.parametrize("request_", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["first", "between"])
async def test_an_empty_line_does_not_keep_an_idle_connection_open(request_: bytes) -> None:
    async with _connection_to_hello() as client:
        if request_:
            await client.send(request_)
            assert (await client.response()).status == 200
        await client.send(b"\r\n")
        assert await client.is_closed()


async def test_an_empty_line_before_a_request_does_not_limit_its_response_time() -> None:
    async with _connection_to_hello() as client:
        await client.send(b"\r\nGET /v1/hello/stream HTTP/1.1\r\nHost: x\r\n\r\n\r\n")
        await client.until(b"retry: 2000\n\n\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3 * IDLE_SECONDS):
                await client.is_closed()


@contextlib.asynccontextmanager
async def _connection_to_hello() -> AsyncIterator[Client]:
    """A connection to the application with a short keep-alive timeout."""
    async with _connection_to_app(create_app(Hello, Settings()), head_seconds=10, idle_seconds=IDLE_SECONDS) as client:
        yield client


@contextlib.asynccontextmanager
async def _connection_to_app(app: ASGIApp, *, head_seconds: float, idle_seconds: int) -> AsyncIterator[Client]:
    """A connection to an application in this process."""
    protocol: Callable[..., asyncio.Protocol] = connection_protocol(head_seconds, 10, Hello.metrics.slow_clients_total)
    config = uvicorn.Config(app, timeout_keep_alive=idle_seconds, log_config=None)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1"
    )
    async with server, connection_to(*server.sockets[0].getsockname()) as client:
        yield client
        client.close()
        while state.connections:
            await asyncio.sleep(0.01)


async def test_pipelined_requests_get_their_responses_in_order(service: Service) -> None:
    async with connected(service) as client:
        missing = b"GET /v1/missing HTTP/1.1\r\nHost: x\r\n\r\n"
        await client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + with_content_length(b'{"name": "x"}') + missing)
        assert [(await client.response()).status for _ in range(3)] == [200, 201, 404]


async def test_trickling_headers_of_a_pipelined_request_do_not_interrupt_the_response(impatient: Service) -> None:
    async with connected(impatient) as client:
        # A streaming response is still in flight when the header timeout of the next request expires.
        await client.send(b"GET /v1/hello/stream HTTP/1.1\r\nHost: x\r\n\r\nGET /livez")
        response = await client.response()
        assert response.headers["content-type"].startswith("text/event-stream")
        await asyncio.sleep(0.7)
        httpx2.post(f"{impatient.url}/v1/hello", json={"name": "in the stream"})
        assert b"in the stream" in await client.until(b"in the stream")


async def test_rejected_headers_of_a_pipelined_request_close_the_connection_after_the_response() -> None:
    rejected = asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await rejected.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with _connection_to_app(app, head_seconds=0.1, idle_seconds=10 * DEADLINE_SECONDS) as client:
        before = _slow_headers()
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /late")
        async with asyncio.timeout(DEADLINE_SECONDS):
            while _slow_headers() == before:
                await asyncio.sleep(0.01)
        rejected.set()
        assert (await client.response()).status == 204
        assert await client.is_closed()


def _slow_headers() -> float:
    return REGISTRY.get_sample_value("hello_slow_clients_total", {"part": "head"}) or 0


async def test_an_upgrade_to_http_2_is_ignored(service: Service) -> None:
    """As in the first request of Java's HTTP client. Logs no warning."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
    async with connected(service) as client:
        await client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
        assert (await client.response()).content == b"ok"
        await client.send(POST + upgrade + b'Content-Length: 13\r\n\r\n{"name": "x"}')
        assert (await client.response()).status == 201
    assert not any("pgrade" in line for line in service.log)


async def test_slow_clients_do_not_block_others(service: Service) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for beginning in (b"", b"GET /livez HTTP/1.1\r\nHos", POST + b"Content-Length: 100\r\n\r\n{") * 50:
            await (await stack.enter_async_context(connected(service))).send(beginning)
        async with connected(service) as client:
            await client.send(with_content_length(b'{"name": "x"}'))
            assert (await client.response()).status == 201


# --- Memory ----------------------------------------------------------------------------------------------------------


async def _expect_status(client: Client, request: bytes, *statuses: int) -> None:
    await client.send(request)
    response = await client.response()
    assert response.status in statuses, response.content


async def _expect_timeout(client: Client, head: bytes) -> None:
    await client.send(head)
    async with trickling(client, b"a"):
        assert (await client.response()).status == 408


async def _disconnect(client: Client, request: bytes) -> None:
    await client.send(request)  # then the connection is closed


BAD: dict[str, Callable[[Client], Awaitable[None]]] = {
    "too large": lambda client: _expect_status(client, with_content_length(b"x" * (SMALL + 1)), 413),
    "too large in chunks": lambda client: _expect_status(client, chunked(b"x" * (SMALL + 1)), 413),
    "trickled body": lambda client: _expect_timeout(client, POST + b"Content-Length: 100\r\n\r\n"),
    "trickled head": lambda client: _expect_timeout(client, b"GET /livez HTTP/1.1\r\na: "),
    "huge head": lambda client: _expect_status(client, NEVER_ENDING[: 5 * MAX_HEAD_BYTES], 431),
    "invalid HTTP": lambda client: _expect_status(client, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "deep JSON": lambda client: _expect_status(client, with_content_length(b"[" * 50_000), 400, 422),
    "invalid UTF-8": lambda client: _expect_status(client, with_content_length(b'{"name": "\xff\xfe"}'), 400, 422),
    "gone in mid-body": lambda client: _disconnect(client, POST + b"Content-Length: 90000\r\n\r\n" + b"x" * 80_000),
    "gone before the response": lambda client: _disconnect(client, with_content_length(b'{"name": 5}')),
}
LISTS = 4
LIST = b"GET /v1/hello/often?times=25 HTTP/1.1\r\nHost: x\r\n"
UNREAD = {
    "lists": b"\r\n".join([LIST] * LISTS),
    "lists, and then closed": b"\r\n".join([LIST] * LISTS) + b"Connection: close\r\n",
    "stream": b"GET /v1/hello/stream?past=100 HTTP/1.1\r\nHost: x\r\n",
}
ROUNDS, UNREAD_ROUNDS = 6, 2
"""Of a hundred requests each; an unread response is a megabyte, so more rounds would take long."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.full if kind.startswith("trickled") else []) for kind in BAD]
)
async def test_a_hundred_concurrent_bad_requests_leak_nothing(impatient: Service, kind: str) -> None:
    await assert_no_leaks(impatient, BAD[kind], ROUNDS)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == "lists" else pytest.mark.full) for kind in UNREAD]
)
async def test_a_hundred_concurrent_clients_that_do_not_read_leak_nothing(impatient: Service, kind: str) -> None:
    await assert_slow_readers_are_cut_off(impatient, UNREAD[kind], UNREAD_ROUNDS, namespace="hello")


async def test_a_slow_reader_gets_the_complete_response(impatient: Service) -> None:
    async with connected(impatient) as client:
        await client.send(UNREAD["lists, and then closed"] + b"\r\n")
        for _ in range(LISTS):
            head = await client.until(b"\r\n\r\n")
            (length,) = re.findall(rb"content-length: (\d+)", head)
            for _ in range(int(length) // PIECE):
                await client.read(PIECE)
                await asyncio.sleep(0.05)  # in total longer than the write timeout
            await client.read(int(length) % PIECE)
        assert await client.is_closed()
