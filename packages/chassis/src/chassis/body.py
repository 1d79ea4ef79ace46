"""Reads a request body within limits on its size and on the time it takes to arrive."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from prometheus_client import Counter
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from chassis.problems import Problem, problem_response

BODY_COMPLETE = "body_complete"
"""The key in the scope's `state` that connection.py sets once the whole body has arrived."""
MAX_DISCARD_BYTES = 16 * 1024 * 1024
"""How much of a rejected body is still read: most clients read the response only after they have sent everything. A
client that sends more is disconnected."""
DISCARD_SECONDS = 5.0


@dataclass(frozen=True)
class BodyLimits:
    """How large a request body may be, and how long it may take to arrive."""

    max_bytes: int
    seconds: float


class BodyTooLarge(Exception):
    """The body, or its Content-Length, exceeds the limit. unread: whether more is still to come."""

    def __init__(self, *, unread: bool) -> None:
        super().__init__()
        self.unread = unread


class BodyTooSlow(Exception):
    """The body did not arrive in time."""


class ClientGone(Exception):
    """The client disconnected before it had sent the whole body."""


async def buffer_body_or_reject(
    scope: Scope, receive: Receive, send: Send, content_length: int | None, *, limits: BodyLimits, slow_clients: Counter
) -> Receive | None:
    """Reads the whole body; returns a `receive` that replays it.

    Returns None if the request is over: the client disconnected, or was sent a 408 or a 413.
    """
    try:
        body = await read_limited_body(receive, content_length, max_bytes=limits.max_bytes, seconds=limits.seconds)
    except ClientGone:
        return None
    except BodyTooSlow:
        slow_clients.labels("body").inc()
        detail = f"The body did not arrive within {limits.seconds:g} s. Retry, or send a smaller body."
        problem = Problem(408, detail, type="body-too-slow", headers={"Connection": "close"})
        await problem_response(Request(scope), problem)(scope, receive, send)
        return None
    except BodyTooLarge as error:
        detail = f"The body exceeds the limit of {limits.max_bytes} bytes."
        problem = Problem(413, detail, type="body-too-large", headers={"Connection": "close"})

        async def send_unfinished(message: Message) -> None:
            await send({**message, "more_body": True} if message["type"] == "http.response.body" else message)

        # The response is left unfinished until the rest of the body is discarded: once it is complete the server closes
        # the connection, and a client that is still sending would see a reset instead of the response.
        await problem_response(Request(scope), problem)(scope, receive, send_unfinished)
        if error.unread:
            await discard_body(receive, seconds=DISCARD_SECONDS)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return None
    return replay(body, receive)


async def read_limited_body(receive: Receive, content_length: int | None, *, max_bytes: int, seconds: float) -> bytes:
    """The whole body. Raises BodyTooLarge, BodyTooSlow and ClientGone.

    content_length: the header's value, if the client sent one. A body without it is counted as it arrives.
    """
    if content_length is not None and content_length > max_bytes:
        raise BodyTooLarge(unread=True)
    body = bytearray()  # with bytes, each of a thousand small chunks would copy everything before it
    try:
        async with asyncio.timeout(seconds):
            while True:
                chunk, more = await _next_chunk(receive)
                if len(body) + len(chunk) > max_bytes:
                    raise BodyTooLarge(unread=more)
                body += chunk
                if not more:
                    return bytes(body)
    except TimeoutError:
        raise BodyTooSlow from None


async def discard_body(receive: Receive, *, seconds: float) -> None:
    """Reads and discards the rest of a body, for at most MAX_DISCARD_BYTES and `seconds`."""
    discarded = 0
    try:
        async with asyncio.timeout(seconds):
            while discarded < MAX_DISCARD_BYTES:
                chunk, more = await _next_chunk(receive)
                discarded += len(chunk)
                if not more:
                    return
    except (TimeoutError, ClientGone):
        return


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body, which was read already, and then what `receive` returns."""
    replayed = False

    async def receive_again() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


async def read_received_body(receive: Receive) -> bytes:
    """The body, behind EdgeMiddleware, which has already enforced the limits."""
    body, more = await _next_chunk(receive)
    while more:  # hardly ever: a body that has arrived, or is replayed, is a single message
        chunk, more = await _next_chunk(receive)
        body += chunk
    return body


async def _next_chunk(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message.get("body", b""), message.get("more_body", False)
