"""Startup and graceful shutdown: readiness, draining and requests in flight."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx2
import pytest
from databases import BLOCKED, connected
from hello.service import Hello, Settings
from programs import DEADLINE_SECONDS, Service, eventually
from running import NOTES, serving
from starlette.types import Message, Receive, Scope, Send

from chassis.app import create_app
from chassis.body import BodyLimits
from chassis.edge import EdgeMiddleware
from chassis.health import HealthState
from chassis.server import serve


def readiness(service: Service) -> httpx2.Response:
    return httpx2.get(f"{service.url}/readyz?verbose")


def test_while_draining_it_serves_but_is_not_ready() -> None:
    with serving(HELLO_DRAIN_SECONDS="300") as service, httpx2.Client(base_url=service.url) as client:
        assert client.get("/readyz").status_code == 200
        assert "connection" not in client.get("/v1/hello").headers
        service.process.send_signal(signal.SIGTERM)
        eventually(lambda: readiness(service).status_code == 503, "not ready")
        assert readiness(service).text.splitlines() == [
            "[+]started ok",
            "[-]not-draining failed",
            "readyz check failed",
        ]
        response = client.post("/v1/hello", json={"name": "late client"})
        assert (response.status_code, response.headers["connection"]) == (201, "close")
        assert httpx2.get(f"{service.url}/livez").status_code == 200
        assert service.stop() == 0  # the second signal does not wait for the drain


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_without_a_drain_it_stops_immediately_despite_an_open_stream(sig: signal.Signals) -> None:
    with (
        serving(HELLO_GRACEFUL_SECONDS="300") as service,  # longer than `stop` waits for
        httpx2.Client(base_url=service.url, timeout=DEADLINE_SECONDS) as client,
        client.stream("GET", "/v1/hello/stream") as stream,
    ):
        lines = stream.iter_lines()
        next(lines)
        assert service.stop(sig) == 0


async def test_a_request_in_flight_completes_before_shutdown(postgres_url: str) -> None:
    async with _waiting_request(postgres_url, graceful_seconds=20) as (service, release, responses):
        service.process.send_signal(signal.SIGTERM)
        eventually(lambda: _refuses_connections(service), "the listener is closed")
        await release()
        assert service.process.wait(DEADLINE_SECONDS) == 0
    assert responses == [(201, "close", "")]


async def test_a_request_that_exceeds_the_grace_period_gets_503(postgres_url: str) -> None:
    async with _waiting_request(postgres_url, graceful_seconds=1) as (service, _, responses):
        assert service.stop() == 0
    assert responses == [(503, "close", "1")]


async def test_a_started_response_is_not_replaced_when_shutdown_cancels_it() -> None:
    sent: list[str] = []

    async def send(message: Message) -> None:
        sent.append(message["type"])

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise asyncio.CancelledError

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    hello = Hello(Settings())
    limits, slow_clients = BodyLimits(max_bytes=1, seconds=1), hello.metrics.slow_clients_total
    health_state = HealthState(hello, revision="")
    edge = EdgeMiddleware(app, health_state=health_state, body_limits=limits, slow_clients=slow_clients)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    with pytest.raises(asyncio.CancelledError):
        await edge(scope, receive, send)
    assert sent == ["http.response.start"]


async def test_a_cancellation_while_serving_is_raised_and_not_taken_for_a_signal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Settings(port=0)
    caplog.set_level("INFO")
    task = asyncio.create_task(serve(create_app(Hello, settings), settings))
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while "Listening on" not in caplog.text:
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        gc.unfreeze()
        for sig in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(sig)
    assert "signal" not in caplog.text


def test_it_reports_not_ready_while_its_storage_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unresponsive, socket.create_server(("127.0.0.1", 0)) as free:
        url = f"postgresql://me:pw@127.0.0.1:{unresponsive.getsockname()[1]}/notes"
        port = free.getsockname()[1]
        free.close()
        process = subprocess.Popen(
            [*NOTES.serve, "--port", str(port)],
            env=NOTES.environment(NOTES_DATABASE_URL=url),
            stderr=subprocess.DEVNULL,
        )
        try:
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
                eventually(lambda: _status(client, "/livez") == 200, "it responds")
                assert client.get("/readyz").status_code == 503
                assert client.get("/readyz?verbose").text.startswith("[-]started failed\n")
                response = client.get(f"/v1/notes/{uuid4()}")
                assert (response.status_code, response.headers["retry-after"]) == (503, "1")
                health = client.get("/health")
                assert (health.status_code, health.json()["status"]) == (503, "degraded")
            process.terminate()
            assert process.wait(DEADLINE_SECONDS) == 0
        finally:
            process.kill()
            process.wait()


Responses = list[tuple[int, str, str]]


@asynccontextmanager
async def _waiting_request(
    postgres_url: str, *, graceful_seconds: int
) -> AsyncIterator[tuple[Service, Callable[[], Awaitable[None]], Responses]]:
    """The service with a request blocked by a locked table, a function to unblock it and, at the end, its response."""
    responses: Responses = []
    settings = {f"NOTES_DATABASE_{name}SECONDS": "60" for name in ("", "LOCK_", "STATEMENT_")}
    settings |= {"NOTES_DATABASE_URL": postgres_url, "NOTES_GRACEFUL_SECONDS": str(graceful_seconds)}
    with NOTES.serving(**settings) as service:

        def create() -> None:
            response = httpx2.post(f"{service.url}/v1/notes", json={"text": "x"}, timeout=DEADLINE_SECONDS)
            connection, retry_after = (response.headers.get(name, "") for name in ("connection", "retry-after"))
            responses.append((response.status_code, connection, retry_after))

        thread = threading.Thread(target=create)
        async with connected(postgres_url) as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("LOCK TABLE notes")
            thread.start()
            while not await connection.fetchval(BLOCKED):
                await asyncio.sleep(0.01)
            yield service, transaction.rollback, responses
            thread.join(DEADLINE_SECONDS)


def _refuses_connections(service: Service) -> bool:
    try:
        httpx2.get(f"{service.url}/livez")
    except httpx2.TransportError:
        return True
    return False


def _status(client: httpx2.Client, path: str) -> int | None:
    try:
        return client.get(path).status_code
    except httpx2.TransportError:
        return None
