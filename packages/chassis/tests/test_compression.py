"""Response compression and its exceptions."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hello.service import Hello, Settings
from starlette.responses import Response, StreamingResponse
from starlette.testclient import TestClient
from starlette.types import Message

from chassis.app import create_app
from chassis.compression import INLINE_BYTES, MIN_BYTES, negotiate, with_compression

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP = {"Accept-Encoding": "gzip, deflate, br"}
BODY = b"water the plants " * 200


async def send_compressed(response: Response, coding: str = "gzip") -> tuple[dict[str, str], bytes]:
    """The headers and the body of a response that went through compression."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    await response({"type": "http", "method": "GET"}, receive, with_compression(send, "GET", coding))
    start, *pieces = messages
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return headers, b"".join(piece["body"] for piece in pieces)


@pytest.mark.parametrize("kind", ["application/json", "text/calendar; charset=utf-8", "application/problem+json"])
@pytest.mark.parametrize("size", [MIN_BYTES, INLINE_BYTES * 3])
@pytest.mark.parametrize(("coding", "decompress"), [("gzip", gzip.decompress), ("zstd", zstd.decompress)])
async def test_large_text_is_compressed(
    coding: str, decompress: Callable[[bytes], bytes], kind: str, size: int
) -> None:
    body = b"x" * size
    headers, packed = await send_compressed(Response(body, headers={"ETag": 'W/"1"', "Content-Type": kind}), coding)
    assert decompress(packed) == body
    assert (headers["content-encoding"], headers["vary"], headers["etag"]) == (coding, "Accept-Encoding", 'W/"1"')
    assert int(headers["content-length"]) == len(packed) < size


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (BODY[: MIN_BYTES - 1], {}),
        (BODY, {"Content-Type": "image/png"}),
        (BODY, {"Content-Encoding": "br"}),
        (BODY, {"Content-Range": "bytes 0-3399/4000"}),
        (BODY, {"Cache-Control": "no-store, no-transform"}),
        (BODY, {"ETag": '"v7"'}),  # a strong ETag would stand for two representations
    ],
)
async def test_small_or_untransformable_content_is_sent_unchanged(body: bytes, headers: dict[str, str]) -> None:
    sent_headers, plain = await send_compressed(Response(body, headers={"Content-Type": "text/plain", **headers}))
    assert plain == body
    assert sent_headers["content-length"] == str(len(body))
    assert sent_headers.get("content-encoding") == headers.get("Content-Encoding")


async def test_a_stream_is_sent_uncompressed() -> None:
    async def events() -> Any:
        for _ in range(2):
            yield BODY

    for kind in ("text/event-stream", "text/plain"):
        headers, plain = await send_compressed(StreamingResponse(events(), media_type=kind))
        assert plain == BODY * 2
        assert "content-encoding" not in headers


async def test_a_file_sent_in_pieces_stays_uncompressed_and_keeps_its_length() -> None:
    async def pieces() -> Any:
        for _ in range(2):
            yield BODY

    length = {"Content-Length": str(2 * len(BODY))}
    headers, plain = await send_compressed(StreamingResponse(pieces(), media_type="text/plain", headers=length))
    assert plain == BODY * 2
    assert (headers["content-length"], headers.get("content-encoding")) == (length["Content-Length"], None)


@pytest.mark.parametrize(("size", "yields"), [(INLINE_BYTES, False), (INLINE_BYTES + 1, True)])
async def test_compressing_large_content_does_not_block_the_event_loop(size: int, yields: bool) -> None:
    others = asyncio.create_task(asyncio.sleep(0))
    await send_compressed(Response(b"x" * size, media_type="text/plain"))
    assert others.done() is yields
    await others


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        *[(header, "gzip") for header in ("gzip", "br, GZIP;q=0.5", "deflate, *", "x-gzip", "gzip;q=0.01")],
        *[(header, "zstd") for header in ("gzip, deflate, br, zstd", "zstd", "zstd;q=0.5, gzip; q=0.5")],
        *[(header, "gzip") for header in ("zstd;q=0.5, gzip", "zstd;q=0, gzip;q=0.1", "zstd;q=x, gzip")],
        *[
            (header, None)
            for header in ("", "br", "identity", "gzip;q=0", "gzip; q=0.000", "br, *;q=0.0", "*, gzip;q=0")
        ],
    ],
)
def test_the_coding_is_negotiated_by_accept_encoding(header: str, coding: str | None) -> None:
    assert negotiate(header.encode()) == coding


def test_the_service_compresses_if_the_client_accepts_it() -> None:
    with TestClient(create_app(Hello, Settings())) as client:
        plain = client.get("/openapi.json", headers={"Accept-Encoding": "identity"})
        packed = client.get("/openapi.json", headers=GZIP)
        assert packed.headers["Content-Encoding"] == "gzip"
        assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"]) / 3
        assert json.loads(packed.content) == plain.json()
        assert "Content-Encoding" not in plain.headers
