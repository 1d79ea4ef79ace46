"""How responses are written: a head together with its body, unless the body comes later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from hello.service import Hello
from programs import DEADLINE_SECONDS
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from transports import Transport
from uvicorn.server import ServerState

from chassis.connection import MAX_JOINED_BYTES, connection_protocol


def start(*headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": list(headers)}


def body(content: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


def sending(*messages: Message) -> ASGIApp:
    """An application that responds to every request with these messages."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


async def responses(
    app: ASGIApp, *requests: bytes, transport: Transport | None = None, closes: bool = False
) -> list[bytes]:
    """What is written to a connection that receives these requests at once, when all of them have ended.

    transport: that of the connection, if the test needs it. closes: whether the connection is closed then.
    """
    protocol: Callable[..., Any] = connection_protocol(10, 10, Hello.metrics.slow_clients_total)
    config = uvicorn.Config(app, log_config=None)
    config.load()
    connection = protocol(config=config, server_state=ServerState(), app_state={})
    transport = transport or Transport()
    connection.connection_made(transport)
    connection.data_received(b"".join(requests))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while connection.tasks or connection.pipeline:
            await asyncio.sleep(0)
    assert transport.closing is closes
    connection.connection_lost(ConnectionResetError())
    return transport.writes


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SIZE_5 = (b"content-length", b"5")
HEAD_5 = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"


async def test_head_and_body_are_one_write() -> None:
    assert await responses(sending(start(SIZE_5), body(b"12345")), GET) == [HEAD_5 + b"12345"]


async def test_pipelined_responses_are_one_write_each() -> None:
    app = sending(start(SIZE_5), body(b"12345"))
    assert await responses(app, GET, GET, GET) == [HEAD_5 + b"12345"] * 3


async def test_the_head_of_a_stream_is_written_before_its_body_exists() -> None:
    exists = asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(start())
        await exists.wait()
        await send(body(b"12345"))

    transport = Transport()
    response = asyncio.create_task(responses(app, GET, transport=transport))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not transport.writes:
            await asyncio.sleep(0)
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    assert transport.writes == [head]
    exists.set()
    assert await response == [head, b"5\r\n12345\r\n0\r\n\r\n"]


async def test_the_rest_of_a_body_is_written_as_it_comes() -> None:
    """Also if it looks like a head."""
    rest = [b"\r\n\r\n", b"\r\ncontent-length: 5\r\n\r\n"]
    size = 5 + sum(map(len, rest))
    app = sending(
        start((b"content-length", b"%d" % size)),
        body(b"12345", more=True),
        *(body(part, more=True) for part in rest),
        body(b""),
    )
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size
    assert await responses(app, GET) == [head + b"12345", *rest, b""]


OLD_GET = GET.replace(b"1.1", b"1.0")


async def test_a_stream_has_no_chunks_in_http_1_0_and_ends_with_the_connection() -> None:
    parts = [b"12345", b"", b"0\r\n\r\n", b"x" * 100]
    app = sending(start(), *(body(part, more=True) for part in parts), body(b"end"))
    head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
    assert await responses(app, OLD_GET, closes=True) == [head, *parts, b"end"]


async def test_a_response_of_known_length_is_the_same_in_http_1_0() -> None:
    written = await responses(sending(start(SIZE_5), body(b"5\r\n\r\n")), OLD_GET, closes=True)
    assert written == [HEAD_5[:-2] + b"connection: close\r\n\r\n5\r\n\r\n"]


@pytest.mark.parametrize(("size", "writes"), [(MAX_JOINED_BYTES, 1), (MAX_JOINED_BYTES + 1, 2)])
async def test_a_large_body_is_not_copied(size: int, writes: int) -> None:
    written = await responses(sending(start((b"content-length", b"%d" % size)), body(b"x" * size)), GET)
    assert len(written) == writes
    assert b"".join(written) == b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size


async def test_the_response_to_head_is_written_without_a_body() -> None:
    app = sending(start(SIZE_5), body(b"12345"))
    assert await responses(app, GET.replace(b"GET", b"HEAD"), GET) == [HEAD_5, HEAD_5 + b"12345"]


async def test_an_empty_body_does_not_keep_the_head_back() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    assert await responses(sending(start((b"content-length", b"0")), body(b"")), GET) == [head]


async def test_the_last_response_of_a_connection_is_written_before_it_closes() -> None:
    app = sending(start(SIZE_5, (b"connection", b"close")), body(b"12345"))
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n"
    assert await responses(app, GET, closes=True) == [head + b"12345"]


async def test_the_head_of_a_large_body_is_written_once() -> None:
    part = b"x" * (MAX_JOINED_BYTES + 1)
    size = (b"content-length", b"%d" % (2 * len(part)))
    app = sending(start(size, (b"connection", b"close")), body(part, more=True), body(part))
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %b\r\nconnection: close\r\n\r\n" % size[1]
    assert await responses(app, GET, closes=True) == [head, part, part]


async def test_an_application_that_fails_after_the_head_has_it_written_and_its_connection_closed() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(start(SIZE_5))
        raise ZeroDivisionError

    assert await responses(app, GET, closes=True) == [HEAD_5]


async def test_an_interim_response_is_written_at_once() -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(start(SIZE_5))
        await send(body(b"12345"))

    expecting = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    written = await responses(app, expecting, b"x")
    assert written[0] == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert b"".join(written[1:]) == HEAD_5 + b"12345"
