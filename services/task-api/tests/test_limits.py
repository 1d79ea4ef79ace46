"""Misbehaving clients of this service's own request paths: the fast path, and the change stream.

What is common to all services is tested in packages/chassis/tests/test_limits.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from bad_clients import FREED_AT_ONCE, Client, assert_no_leaks, assert_slow_readers_are_cut_off
from running import Service, serving

IMPATIENT = {**{f"TASKS_{name}_SECONDS": "0.5" for name in ("HEAD", "BODY", "WRITE")}, **FREED_AT_ONCE}
POST = b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


@pytest.fixture(scope="module")
def impatient() -> Iterator[Service]:
    """The service with short timeouts."""
    with serving(**IMPATIENT) as running:
        yield running


@pytest.fixture(scope="module")
def full() -> Iterator[Service]:
    """Also with short timeouts, and with tasks of 4 MB in total: more than the system's buffers hold of the response to
    UNREAD."""
    with serving(**IMPATIENT) as running, httpx2.Client(base_url=running.url) as client:
        for _ in range(100):
            client.post("/v1/tasks", json={"title": "x", "description": "\N{GRINNING FACE}" * 10_000})
        yield running


BAD = {"deep JSON": b"[" * 50_000, "invalid UTF-8": b'{"title": "\xff\xfe"}'}
UNREAD = {
    "lists": b"\r\n".join([b"GET /v1/tasks?page_size=25 HTTP/1.1\r\nHost: x\r\n"] * 4),
    "stream": b"GET /v1/changes HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n",
}
ROUNDS, UNREAD_ROUNDS = 6, 2
"""A hundred requests each; those that are not read have a megabyte response, and more of them would take long."""


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", BAD)
async def test_a_hundred_concurrent_bad_requests_leak_nothing(impatient: Service, kind: str) -> None:
    async def refused(client: Client) -> None:
        await client.send(POST % (len(BAD[kind]), BAD[kind]))
        answer = await client.response()
        assert answer.status in (400, 422), answer.content

    await assert_no_leaks(impatient, refused, ROUNDS)


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_a_hundred_clients_that_disconnect_early_leak_nothing(impatient: Service) -> None:
    await assert_no_leaks(impatient, lambda client: client.send(POST % (12, b'{"title": 5}')), ROUNDS)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", UNREAD)
async def test_a_hundred_clients_that_do_not_read_leak_nothing(full: Service, kind: str) -> None:
    await assert_slow_readers_are_cut_off(full, UNREAD[kind], UNREAD_ROUNDS, namespace="task_api")
