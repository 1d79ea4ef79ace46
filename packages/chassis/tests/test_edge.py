"""The edge middleware, called directly."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hello.service import Hello, Settings
from prometheus_client import REGISTRY
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import chassis.edge
from chassis import logs
from chassis.body import BODY_COMPLETE, BodyLimits
from chassis.edge import EdgeMiddleware
from chassis.health import HealthState

SCOPE = {"type": "http", "method": "GET", "path": "/v1/hello", "headers": [], "query_string": b""}
HELLO = Hello(Settings())


def edge(app: ASGIApp) -> EdgeMiddleware:
    return EdgeMiddleware(
        app,
        health_state=HealthState(HELLO, revision=""),
        body_limits=BodyLimits(max_bytes=1, seconds=1),
        slow_clients=HELLO.metrics.slow_clients_total,
    )


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def call(app: ASGIApp, scope: Mapping[str, Any] = SCOPE) -> list[Message]:
    """What is sent to the client."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await edge(app)(dict(scope), receive, send)
    return sent


async def respond(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": b""})


async def stay_silent(_scope: Scope, _receive: Receive, _send: Send) -> None:
    pass


def in_flight() -> float | None:
    return REGISTRY.get_sample_value("http_requests_in_flight")


@pytest.fixture
def access_log(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """The fields of each line."""
    lines: list[dict[str, object]] = []
    monkeypatch.setattr(logs, "access", lambda **fields: lines.append(fields))
    return lines


@pytest.fixture
def contexts(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, str]]:
    """What each request adds to its log lines."""
    entered: list[Mapping[str, str]] = []
    enter_request = logs.enter_request

    def entering(context: Mapping[str, str]) -> Any:
        entered.append(dict(context))
        return enter_request(context)

    monkeypatch.setattr(logs, "enter_request", entering)
    return entered


async def test_a_scope_other_than_http_reaches_the_application_once() -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        scopes.append(scope)

    assert await call(app, {"type": "lifespan"}) == []
    assert scopes == [{"type": "lifespan"}]


async def test_a_client_that_is_gone_before_the_response_is_recorded_as_499(
    access_log: list[dict[str, object]],
) -> None:
    await call(stay_silent)
    assert [line["status"] for line in access_log] == [499]


async def test_the_duration_is_logged_in_milliseconds_with_three_decimals(
    access_log: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 10.0123456])
    monkeypatch.setattr(chassis.edge, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    await call(respond)
    assert [line["duration_ms"] for line in access_log] == [12.346]


@pytest.mark.parametrize(("client", "logged"), [(("192.0.2.1", 5), "192.0.2.1"), (None, "")])
async def test_the_address_of_the_client_is_logged_if_known(
    access_log: list[dict[str, object]], client: tuple[str, int] | None, logged: str
) -> None:
    await call(respond, {**SCOPE, "client": client})
    assert [line["client"] for line in access_log] == [logged]


@pytest.mark.parametrize(("status", "is_logged"), [(399, False), (400, True)])
async def test_a_probe_is_logged_from_status_400(
    access_log: list[dict[str, object]], status: int, is_logged: bool
) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})

    await call(app, {**SCOPE, "path": "/livez"})
    assert len(access_log) == is_logged


async def test_a_request_is_in_flight_until_it_ends_however_it_ends() -> None:
    seen = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append(in_flight())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await call(app)
    assert (seen, in_flight()) == ([1], 0)


@pytest.mark.parametrize(("error", "status"), [(asyncio.CancelledError, 503), (ZeroDivisionError, 500)])
async def test_an_error_before_the_response_becomes_a_problem_and_is_recorded(
    access_log: list[dict[str, object]], error: type[BaseException], status: int
) -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise error

    start, _ = await call(app)
    assert start["status"] == status
    assert dict(start["headers"]).get(b"retry-after") == (b"1" if status == 503 else None)
    assert [line["status"] for line in access_log] == [status]


async def test_the_id_of_a_new_trace_is_logged(contexts: list[Mapping[str, str]]) -> None:
    span = SimpleNamespace(get_span_context=lambda: SimpleNamespace(trace_id=0xABC))
    await call(respond, {**SCOPE, "fastapi.telemetry": SimpleNamespace(span=span)})
    await call(respond, {**SCOPE, "fastapi.telemetry": SimpleNamespace(span=None)})
    assert [context.get("trace_id") for context in contexts] == [f"{0xABC:032x}", None]


async def test_headers_of_the_rate_limit_are_sent() -> None:
    start, _ = await call(respond, {**SCOPE, "state": {"rate_limit_headers": [(b"ratelimit", b"r=1")]}})
    assert [name for name, _ in start["headers"]] == [b"a", b"x-request-id", b"ratelimit"]


async def test_a_new_request_id_is_random_and_has_128_bits(contexts: list[Mapping[str, str]]) -> None:
    await call(respond)
    await call(respond)
    first, second = (context["request_id"] for context in contexts)
    assert len(bytes.fromhex(first)) == 16
    assert first != second


async def test_log_lines_after_a_request_are_not_its_own() -> None:
    def fields() -> object:
        token = logs.enter_request({})
        logs.leave_request(token)
        return token.old_value

    before = fields()
    await call(respond)
    assert fields() is before


@pytest.mark.parametrize(
    ("length", "has_arrived", "is_read"), [(b"0", False, False), (b"1", False, True), (b"1", True, False)]
)
async def test_a_body_is_read_before_the_application_unless_it_has_arrived(
    length: bytes, has_arrived: bool, is_read: bool
) -> None:
    given: list[Receive] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        given.append(receive)

    state = {BODY_COMPLETE: True} if has_arrived else {}
    await call(app, {**SCOPE, "headers": [(b"content-length", length)], "state": state})
    assert len(given) == 1
    assert (given != [receive]) == is_read


async def test_a_body_that_has_arrived_is_rejected_if_it_exceeds_the_limit() -> None:
    sent = await call(respond, {**SCOPE, "headers": [(b"content-length", b"2")], "state": {BODY_COMPLETE: True}})
    assert sent[0]["status"] == 413
