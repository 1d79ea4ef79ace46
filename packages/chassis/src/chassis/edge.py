"""The one middleware: what happens to every request, whatever it is for."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import Counter
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis import body, compression, logs, metrics
from chassis.health import PROBES
from chassis.methods import METHODS
from chassis.problems import Problem, answer

if TYPE_CHECKING:
    from chassis.health import Vitals

log = logging.getLogger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
TRACEPARENT = re.compile(r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
"""https://www.w3.org/TR/trace-context/#traceparent-header: later versions than 00 may be longer; there is none ff."""
CLIENT_GONE = 499
"""nginx's status for a client that did not wait for its answer; nobody is sent it."""
DROP_SECONDS = 5.0


@dataclass(frozen=True)
class BodyLimits:
    """How big a request's body may be, and how long it may take to come."""

    max_bytes: int
    seconds: float


class Edge:
    """Pure ASGI: Starlette's BaseHTTPMiddleware costs more than the route behind it."""

    def __init__(self, app: ASGIApp, *, vitals: Vitals, body_limits: BodyLimits, slow_clients: Counter) -> None:
        self._app = app
        self._vitals = vitals
        self._limits = body_limits
        self._slow_clients = slow_clients
        self._in_flight = 0
        metrics.requests_in_flight.set_function(lambda: self._in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = _Headers(scope)
        telemetry = scope.get("fastapi.telemetry")
        if telemetry is not None and telemetry.span is not None:  # its trace may have begun here
            headers.context["trace_id"] = f"{telemetry.span.get_span_context().trace_id:032x}"
        state = scope.setdefault("state", {})
        state["request_id"] = headers.context["request_id"]
        request_id = headers.context["request_id"].encode()
        status = CLIENT_GONE

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
                if "rate_limit_headers" in state:
                    message["headers"] += state["rate_limit_headers"]
                if self._vitals.draining:
                    # Whoever holds this connection opens the next one, to a process that stays.
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        outgoing: Send = send_with_id
        if headers.coding is not None:
            outgoing = compression.compressing(send_with_id, scope["method"], headers.coding)
        self._in_flight += 1
        token = logs.enter_request(headers.context)
        try:
            if headers.has_body and not self._is_harmless(scope, headers.length):
                await self._with_body(scope, receive, outgoing, headers.length)
            else:
                await self._app(scope, receive, outgoing)
        except asyncio.CancelledError:  # the process ends and waits no longer
            if status != CLIENT_GONE:
                raise
            detail = "The service ends and could not finish this in time. Whether it was done is not known: try again."
            problem = Problem(503, detail, headers={"Retry-After": "1"})
            await answer(Request(scope), problem)(scope, receive, send_with_id)
        except Exception:
            log.exception("%s %s failed", scope["method"], logs.shown_path(scope))
            if status != CLIENT_GONE:
                raise  # too late for another answer: the server cuts the connection
            detail = "Something went wrong on our side; the log has it under this request_id."
            await answer(Request(scope), Problem(500, detail))(scope, receive, send_with_id)
        finally:
            self._in_flight -= 1
            self._note(scope, status, time.perf_counter() - start)
            logs.leave_request(token)

    def _is_harmless(self, scope: Scope, length: int | None) -> bool:
        """Whether the whole body has arrived already, as most have. Then there is nothing to wait for or to count: that
        would take a tenth of a POST's CPU within the process."""
        return length is not None and length <= self._limits.max_bytes and "body_is_here" in scope["state"]

    async def _with_body(self, scope: Scope, receive: Receive, send: Send, length: int | None) -> None:
        limits = self._limits
        try:
            whole = await body.read_body(receive, length, max_bytes=limits.max_bytes, seconds=limits.seconds)
        except body.ClientGone:
            return
        except body.BodyTooSlow:
            self._slow_clients.labels("body").inc()
            detail = f"The body did not arrive within {limits.seconds:g} s. Send it again, on a better connection."
            problem = Problem(408, detail, type="body-too-slow", headers={"Connection": "close"})
            await answer(Request(scope), problem)(scope, receive, send)
        except body.BodyTooLarge as error:
            detail = f"The body has more than {limits.max_bytes} bytes, which is the most that is taken."
            problem = Problem(413, detail, type="body-too-large", headers={"Connection": "close"})

            async def send_unfinished(message: Message) -> None:
                await send({**message, "more_body": True} if message["type"] == "http.response.body" else message)

            # The answer is sent without its end. With it the server would close the connection while the client still
            # sends, and the client would see a reset and no answer.
            await answer(Request(scope), problem)(scope, receive, send_unfinished)
            if error.unread:
                await body.drop_body(receive, seconds=DROP_SECONDS)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._app(scope, body.replay(whole, receive), send)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        """Counts the request and writes its line."""
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        route: str = getattr(scope.get("route"), "path_format", None) or "unmatched"
        metrics.answers.count(method, route, status, seconds)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if status >= 400 or path not in PROBES:  # those are asked for every few seconds
            client = scope.get("client")
            logs.access(
                method=method,
                path=logs.shown_path(scope),
                route=route,
                status=status,
                duration_ms=round(seconds * 1000, 3),
                client=client[0] if client else "",
                subject=scope["state"].get("subject", ""),
            )


class _Headers:
    """What is needed of a request's headers, in one look."""

    __slots__ = ("coding", "context", "has_body", "length")

    def __init__(self, scope: Scope) -> None:
        request_id = ""
        self.length: int | None = None
        self.coding: str | None = None
        self.has_body = False
        trace_id: str | None = None
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                request_id = value.decode("latin-1")
            elif name == b"traceparent" and (found := TRACEPARENT.fullmatch(value.decode("latin-1"))):
                trace_id = found[1]
            elif name == b"content-length":
                self.length = int(value) if value.isdigit() else None
                self.has_body = self.length != 0
            elif name == b"transfer-encoding":
                self.has_body = True
            elif name == b"accept-encoding":
                self.coding = compression.negotiate(value)
        if not REQUEST_ID.fullmatch(request_id):  # anything else could forge lines of the log
            request_id = os.urandom(16).hex()  # 0.2 µs, uuid4() 2
        self.context = {"request_id": request_id}
        if trace_id is not None:
            self.context["trace_id"] = trace_id
