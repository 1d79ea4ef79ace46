"""zstd or gzip for large responses, where the client takes one (RFC 9110, sections 8.4 and 12.5.3; RFC 8878).

Not Starlette's GZipMiddleware: it compresses within the event loop, where a page of 1 MiB would keep every other
request waiting, and leaves a strong ETag as it is, which then stands for two representations.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import zlib
from collections.abc import Callable

from starlette.types import Message, Send

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIN_BYTES = 1024
"""Of less there is nothing to gain: it is sent in one packet either way."""
INLINE_BYTES = 64 * 1024
"""More is compressed in a thread (both let go of the GIL); to hand less over takes as long as to compress it."""
GZIP_WBITS = 31
"""zlib's `wbits` for the format of gzip."""
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda body: zstd.compress(body, 1),
    "gzip": lambda body: zlib.compress(body, 1, GZIP_WBITS),
}
"""By their cost. A list of 50 tasks, 24 kB: zstd 33 µs and 2.0 kB, gzip 102 µs and 2.5 kB; by the levels that are
usual, 3 and 6, 55 µs and 2.0 kB, 234 µs and 2.3 kB."""
VARY = (b"vary", b"Accept-Encoding")


@functools.lru_cache(maxsize=64)  # clients send a few again and again, and to read one takes a tenth of a GET
def negotiate(accept_encoding: bytes) -> str | None:
    """The coding that the header gives the most weight, of several the cheapest; None where it takes none of them."""
    weights: dict[str, float] = {}
    for member in accept_encoding.decode("latin-1").lower().split(","):
        name, _, parameter = member.partition(";")
        try:
            weight = float(parameter.replace(" ", "").removeprefix("q=") or 1)
        except ValueError:
            weight = 0.0
        weights["gzip" if name.strip() == "x-gzip" else name.strip()] = weight
    # `*` stands for gzip alone, which every client can read that sends it.
    weights.setdefault("gzip", weights.get("*", 0.0))
    coding = max(COMPRESS, key=lambda name: weights.get(name, 0.0))
    return coding if weights.get(coding, 0.0) > 0 else None


def compressing(send: Send, method: str, coding: str) -> Send:
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
        compress = COMPRESS[coding]
        packed = await asyncio.to_thread(compress, body) if len(body) > INLINE_BYTES else compress(body)
        headers = [header for header in start["headers"] if header[0] != b"content-length"]
        headers += [(b"content-encoding", coding.encode()), (b"content-length", b"%d" % len(packed))]
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
