"""The outermost middleware, except for CORS: every request passes through it."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from typing import TYPE_CHECKING

from prometheus_client import Counter
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis import compression, logs, metrics
from chassis.body import BODY_COMPLETE, BodyLimits, buffer_body_or_reject
from chassis.health import MONITORING_PATHS
from chassis.methods import METHODS
from chassis.problems import RETRY_ADVICE, Problem, problem_response

if TYPE_CHECKING:
    from chassis.health import HealthState

log = logging.getLogger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
TRACEPARENT = re.compile(r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
"""https://www.w3.org/TR/trace-context/#traceparent-header: versions after 00 may be longer; ff is invalid."""
CLIENT_GONE = 499
"""nginx's status for a client that disconnected before the response; never sent, only logged and counted."""


class EdgeMiddleware:
    """Pure ASGI: Starlette's BaseHTTPMiddleware costs more than the route behind it."""

    def __init__(
        self, app: ASGIApp, *, health_state: HealthState, body_limits: BodyLimits, slow_clients: Counter
    ) -> None:
        self._app = app
        self._health_state = health_state
        self._limits = body_limits
        self._slow_clients = slow_clients
        self._in_flight = 0
        metrics.requests_in_flight.set_function(lambda: self._in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = _RequestHeaders(scope)
        telemetry = scope.get("fastapi.telemetry")
        if telemetry is not None and telemetry.span is not None:  # the trace may start at this service
            headers.log_context["trace_id"] = f"{telemetry.span.get_span_context().trace_id:032x}"
        state = scope.setdefault("state", {})
        state["request_id"] = headers.log_context["request_id"]
        request_id = headers.log_context["request_id"].encode()
        status = CLIENT_GONE
        response_started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, response_started
            if message["type"] == "http.response.start":
                response_started = True
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
                if "rate_limit_headers" in state:
                    message["headers"] += state["rate_limit_headers"]
                if self._health_state.draining:
                    # So that the client reconnects, to a pod that stays.
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        outgoing: Send = send_with_headers
        if headers.coding is not None:
            outgoing = compression.with_compression(send_with_headers, scope["method"], headers.coding)
        self._in_flight += 1
        token = logs.enter_request(headers.log_context)
        try:
            if headers.has_body and not self._body_already_received(scope, headers.length):
                replayed = await buffer_body_or_reject(
                    scope, receive, outgoing, headers.length, limits=self._limits, slow_clients=self._slow_clients
                )
                if replayed is not None:
                    await self._app(scope, replayed, outgoing)
            else:
                await self._app(scope, receive, outgoing)
        except asyncio.CancelledError:  # graceful shutdown has timed out
            if response_started:
                raise
            detail = f"The server is shutting down and could not complete the request. {RETRY_ADVICE}"
            problem = Problem(503, detail, headers={"Retry-After": "1"})
            await problem_response(Request(scope), problem)(scope, receive, send_with_headers)
        except Exception:
            log.exception("%s %s failed", scope["method"], logs.encoded_path(scope))
            if response_started:
                raise  # the server closes the connection
            detail = "Internal server error. See the server log for this request_id."
            await problem_response(Request(scope), Problem(500, detail))(scope, receive, send_with_headers)
        finally:
            self._in_flight -= 1
            self._record(scope, status, time.perf_counter() - start)
            logs.leave_request(token)

    def _body_already_received(self, scope: Scope, length: int | None) -> bool:
        """Whether the whole body has arrived already, as most have: then nothing has to be awaited or counted, which
        would take a tenth of a POST's CPU time in the process."""
        return length is not None and length <= self._limits.max_bytes and BODY_COMPLETE in scope["state"]

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        """Counts the request and writes its access log line; monitoring requests are only logged when they fail."""
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        route: str = getattr(scope.get("route"), "path_format", None) or "unmatched"
        metrics.responses.count(method, route, status, seconds)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if status >= 400 or path not in MONITORING_PATHS:
            client = scope.get("client")
            logs.access(
                method=method,
                path=logs.encoded_path(scope),
                route=route,
                status=status,
                duration_ms=round(seconds * 1000, 3),
                client=client[0] if client else "",
                subject=scope["state"].get("subject", ""),
            )


class _RequestHeaders:
    """The request headers that the middleware needs, read in one pass."""

    __slots__ = ("coding", "has_body", "length", "log_context")

    def __init__(self, scope: Scope) -> None:
        request_id = ""
        self.length: int | None = None
        self.coding: str | None = None
        self.has_body = False
        trace_id: str | None = None
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                request_id = value.decode("latin-1")
            elif name == b"traceparent" and (match := TRACEPARENT.fullmatch(value.decode("latin-1"))):
                trace_id = match[1]
            elif name == b"content-length":
                self.length = int(value) if value.isdigit() else None
                self.has_body = self.length != 0
            elif name == b"transfer-encoding":
                self.has_body = True
            elif name == b"accept-encoding":
                self.coding = compression.negotiate(value)
        if not REQUEST_ID.fullmatch(request_id):  # anything else could forge log lines
            request_id = os.urandom(16).hex()  # 0.2 µs; uuid4() takes 2
        self.log_context = {"request_id": request_id}
        if trace_id is not None:
            self.log_context["trace_id"] = trace_id
