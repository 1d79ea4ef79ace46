"""Reads a request's body: not more than is allowed, and not for longer."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive

DROP_BYTES = 16 * 1024 * 1024
"""How much of a refused body is still read: most clients read the answer only when they have sent everything. A client
that sends more is cut off."""


class BodyTooLarge(Exception):
    """More came, or was announced, than is allowed. unread: whether there is more to come."""

    def __init__(self, *, unread: bool) -> None:
        super().__init__()
        self.unread = unread


class BodyTooSlow(Exception):
    """It was not all there in time."""


class ClientGone(Exception):
    """The client went away in the middle of it."""


async def read_body(receive: Receive, announced: int | None, *, max_bytes: int, seconds: float) -> bytes:
    """The whole body. Raises BodyTooLarge, BodyTooSlow and ClientGone.

    announced: the Content-Length, where there is one. A body without it is counted while it comes.
    """
    if announced is not None and announced > max_bytes:
        raise BodyTooLarge(unread=True)
    body = bytearray()  # with bytes, each of a thousand small pieces would copy all that came before it
    try:
        async with asyncio.timeout(seconds):
            while True:
                chunk, more = await _next(receive)
                if len(body) + len(chunk) > max_bytes:
                    raise BodyTooLarge(unread=more)
                body += chunk
                if not more:
                    return bytes(body)
    except TimeoutError:
        raise BodyTooSlow from None


async def drop_body(receive: Receive, *, seconds: float) -> None:
    """Reads what is left of a body and forgets it, up to DROP_BYTES and as long as `seconds`."""
    dropped = 0
    try:
        async with asyncio.timeout(seconds):
            while dropped < DROP_BYTES:
                chunk, more = await _next(receive)
                dropped += len(chunk)
                if not more:
                    return
    except (TimeoutError, ClientGone):
        return


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read already, then what `receive` gives."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


async def whole_body(receive: Receive) -> bytes:
    """The body. read_body has already made sure that it is not too large."""
    body, more = await _next(receive)
    while more:
        chunk, more = await _next(receive)
        body += chunk
    return body


async def _next(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message.get("body", b""), message.get("more_body", False)
