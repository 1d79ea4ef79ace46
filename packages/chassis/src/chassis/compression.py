"""gzip for large responses, where the client takes it (RFC 9110, sections 8.4 and 12.5.3).

Not Starlette's GZipMiddleware: it compresses within the event loop, where a page of 1 MiB would keep every other
request waiting, and leaves a strong ETag as it is, which then stands for two representations.
"""

from __future__ import annotations

import asyncio
import functools
import zlib

from starlette.types import Message, Send

MIN_BYTES = 1024
"""Of less there is nothing to gain: it is sent in one packet either way."""
INLINE_BYTES = 64 * 1024
"""More is compressed in a thread (zlib lets go of the GIL); to hand less over takes as long as to compress it."""
LEVEL = 1
"""A list of 50 tasks, 21 kB: 150 µs and 1.7 kB; by level 6, which is the usual one, 280 µs and 1.6 kB."""
GZIP = 31
"""zlib's `wbits` for the format of gzip."""
VARY = (b"vary", b"Accept-Encoding")


@functools.lru_cache(maxsize=64)  # clients send a few again and again, and to read one takes a tenth of a GET
def takes_gzip(accept_encoding: bytes) -> bool:
    """Whether the header names gzip, and not with a weight of 0."""
    for coding in accept_encoding.lower().split(b","):
        name, _, weight = coding.partition(b";")
        if name.strip() in (b"gzip", b"x-gzip", b"*"):
            return weight.replace(b" ", b"").rstrip(b"0") not in (b"q=", b"q=0.")
    return False


def compressing(send: Send, method: str) -> Send:
    """A `send` that compresses a response which is whole, large enough and text.

    Left as they are: streams, since each of their events would wait for others; what has a strong ETag, since another
    coding would need another one, which If-Match would have to know; and what says `no-transform`, as a response has to
    that holds a secret beside what its reader may choose (BREACH, https://www.breachattack.com).
    """
    held: Message | None = None

    async def send_compressed(message: Message) -> None:
        nonlocal held
        if message["type"] == "http.response.start" and _is_worth_it(message):
            held = message
            return
        if held is None:
            await send(message)
            return
        start, held = held, None
        body = message.get("body", b"")
        if method == "HEAD":  # how long GET's is would be known only once it is compressed (RFC 9110, section 9.3.2)
            start["headers"] = [header for header in start["headers"] if header[0] != b"content-length"]
            if VARY not in start["headers"]:
                start["headers"].append(VARY)
        if message.get("more_body", False) or len(body) < MIN_BYTES:  # a file comes in pieces
            await send(start)
            await send(message)
            return
        if len(body) > INLINE_BYTES:
            packed = await asyncio.to_thread(zlib.compress, body, LEVEL, GZIP)
        else:
            packed = zlib.compress(body, LEVEL, GZIP)
        headers = [header for header in start["headers"] if header[0] != b"content-length"]
        headers += [(b"content-encoding", b"gzip"), (b"content-length", b"%d" % len(packed))]
        if VARY not in headers:
            headers.append(VARY)
        await send({**start, "headers": headers})
        await send({**message, "body": packed})

    return send_compressed


def _is_worth_it(start: Message) -> bool:
    is_long = is_text = False
    for name, value in start["headers"]:
        match name:
            case b"content-length":
                is_long = int(value) >= MIN_BYTES
            case b"content-type":
                kind = value.partition(b";")[0]
                is_text = (
                    kind.startswith(b"text/") or kind.endswith((b"/json", b"+json"))
                ) and kind != b"text/event-stream"
            case b"etag":
                if not value.startswith(b"W/"):
                    return False
            case b"cache-control":
                if b"no-transform" in value:
                    return False
            case b"content-encoding" | b"content-range":
                return False
    return is_long and is_text
