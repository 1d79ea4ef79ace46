"""Tracing: spans without secrets if an endpoint is set, otherwise nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import uuid4

import httpx2
import pytest
from collector import CALLER, TRACE, Collector, attributes, collecting, traceparent
from hello.service import Hello, Settings
from notes.store import GET, INSERT
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from programs import DEADLINE_SECONDS
from running import NOTES, environment, serving

from chassis import tracing
from chassis.app import create_app
from chassis.postgres.database import CLOSE_SECONDS


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as listening:
        yield listening


def test_disabled_tracing_imports_nothing_and_creates_no_spans() -> None:
    program = """
import sys
from starlette.testclient import TestClient
from chassis.app import create_app
from hello.service import Hello
from notes.service import Notes
from opentelemetry import trace

made = []
trace.set_tracer_provider(type("Provider", (trace.TracerProvider,), {"get_tracer": lambda *a, **k: made.append(a)})())
create_app(Notes)  # one with PostgreSQL
with TestClient(create_app(Hello)) as client:
    assert client.get("/v1/hello").status_code == 200
print(made, [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.instrumentation",
    "opentelemetry.exporter", "opentelemetry.proto", "requests", "wrapt"))])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    assert done.stdout == "[] []\n", done.stderr


def test_a_request_span_is_a_child_of_the_callers_and_the_parent_of_its_statements(
    collector: Collector, postgres_url: str
) -> None:
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,service.version=9",
        "NOTES_DATABASE_URL": postgres_url,
    }
    with NOTES.serving(**settings) as service:
        with httpx2.Client(base_url=service.url, headers=traceparent(sampled=True)) as client:
            for path in ("/livez", "/readyz", "/health", "/metrics"):
                client.get(path)
            note = client.post("/v1/notes", json={"text": "s3cr3t"}).json()
            credential = {"Authorization": "Bearer s3cr3t"}
            assert client.get(f"/v1/notes/{note}", params={"q": "s3cr3t"}, headers=credential).json() == "s3cr3t"
        assert service.stop() == 0  # sends the remaining spans
    requests = collector.requests(TRACE)
    assert {name: collector.statements(request) for name, request in requests.items()} == {
        "POST /v1/notes": [INSERT],
        "GET /v1/notes/{note_id}": [GET],
    }
    assert len(collector.spans_of(TRACE)) == 4  # none for single messages, dependencies, serialization, probes
    assert {request.parent_span_id.hex() for request in requests.values()} == {CALLER}
    assert {span.trace_id.hex() for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER} == {TRACE}
    route = attributes(requests["GET /v1/notes/{note_id}"])
    assert (route["http.route"], route["http.response.status_code"]) == ("/v1/notes/{note_id}", "200")
    assert route["url.query"] == "REDACTED"
    assert not any("s3cr3t" in str(span) for span in collector.spans)
    assert collector.resource["service.name"] == "notes"
    assert collector.resource["service.revision"] == "dev"
    assert collector.resource["service.version"] == "9"
    assert collector.resource["deployment.environment.name"] == "test"


def test_the_log_line_of_a_request_contains_the_id_of_a_new_trace(collector: Collector) -> None:
    with serving(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_TRACES_SAMPLER="always_on") as service:
        httpx2.get(f"{service.url}/v1/hello")
        assert service.stop() == 0
    (line,) = [line for line in map(json.loads, service.log) if line["message"] == "request"]
    assert {span.trace_id.hex() for span in collector.spans} == {line["trace_id"]}


def test_the_callers_sampling_decision_applies_and_the_default_is_one_in_ten(collector: Collector) -> None:
    with serving(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_SERVICE_NAME="greetings", OTEL_BSP_SCHEDULE_DELAY="100"
    ) as service:
        sampled, unsampled = uuid4().hex, uuid4().hex
        with httpx2.Client(base_url=service.url) as client:
            for _ in range(5):
                client.get("/v1/hello", headers=traceparent(sampled=True, trace=sampled))
                client.get("/v1/hello", headers=traceparent(sampled=False, trace=unsampled))
            for _ in range(300):
                client.get("/v1/hello")
        assert service.stop() == 0
    assert len(collector.spans_of(sampled)) == 5
    assert len(collector.spans_of(unsampled)) == 0
    # 30 of 300 are expected; one run in ten million is outside this range.
    assert 5 <= len(collector.spans) - 5 <= 65
    assert collector.resource["service.name"] == "greetings"


@contextmanager
def _unresponsive() -> Iterator[str]:
    """Accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def _unreachable() -> Iterator[str]:
    with _unresponsive() as url:
        pass
    yield url


@pytest.mark.parametrize("unavailable_collector", [_unresponsive, _unreachable])
def test_without_a_collector_requests_succeed_and_shutdown_is_on_time(
    unavailable_collector: Callable[[], AbstractContextManager[str]],
) -> None:
    small_batches = {"OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "5"}
    with (
        unavailable_collector() as url,
        serving(OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_TRACES_SAMPLER="always_on", **small_batches) as service,
    ):
        with httpx2.Client(base_url=service.url, timeout=5) as client:
            for _ in range(20):  # more than a batch, so that one is being sent
                assert client.get("/v1/hello").status_code == 200
        start = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - start < 5
    assert any("traces were not sent" in line for line in service.log)


async def test_the_last_traces_are_sent_while_the_storage_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    barrier = asyncio.Barrier(2)

    async def wait_for_the_other(*_: object) -> None:
        await barrier.wait()

    monkeypatch.setattr(tracing, "shutdown", wait_for_the_other)
    monkeypatch.setattr(Hello, "close", wait_for_the_other)
    app = create_app(Hello, Settings())
    async with asyncio.timeout(DEADLINE_SECONDS), app.router.lifespan_context(app):
        pass


def test_sending_traces_and_closing_the_storage_may_take_the_second_that_the_chart_reserves() -> None:
    assert (tracing.SHUTDOWN_SECONDS, CLOSE_SECONDS) == (1, 1)
