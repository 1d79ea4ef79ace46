"""Traces: sent where the environment says so, with nothing secret in them, and nothing at all else."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from running import DEADLINE_SECONDS, environment, serving

from chassis import tracing
from chassis.postgres.database import CLOSE_SECONDS
from task_api.app import create_app
from task_api.service import TaskApi
from task_api.settings import Settings

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"


class Collector:
    """What an OpenTelemetry collector was sent."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Span] = []
        self.resource: dict[str, str] = {}

    def take(self, body: bytes) -> None:
        for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resource = {item.key: item.value.string_value for item in sent.resource.attributes}
            for scope in sent.scope_spans:
                self.spans += scope.spans

    def of(self, trace: str) -> list[Span]:
        return [span for span in self.spans if span.trace_id.hex() == trace]


@pytest.fixture
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            found.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # it would write to the test's output
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def attributes(span: Span) -> dict[str, str]:
    return {item.key: item.value.string_value or str(item.value.int_value) for item in span.attributes}


def traceparent(*, sampled: bool, trace: str = TRACE) -> dict[str, str]:
    return {"traceparent": f"00-{trace}-{CALLER}-0{sampled:d}"}


def test_off_nothing_of_it_is_imported_and_no_span_is_made() -> None:
    program = """
import sys
from starlette.testclient import TestClient
from task_api.app import create_app
from opentelemetry import trace

made = []
trace.set_tracer_provider(type("Provider", (trace.TracerProvider,), {"get_tracer": lambda *a, **k: made.append(a)})())
with TestClient(create_app()) as client:
    assert client.get("/v1/tasks").status_code == 200
print(made, [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.instrumentation",
    "opentelemetry.exporter", "opentelemetry.proto", "requests", "wrapt"))])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    assert done.stdout == "[] []\n", done.stderr


def test_a_request_is_one_span_below_its_callers_with_those_of_the_database_below_it(
    collector: Collector, postgres_url: str
) -> None:
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,service.version=9",
        "TASKS_DATABASE_URL": postgres_url,
    }
    with serving(**settings) as service:
        with httpx2.Client(base_url=service.url, headers=traceparent(sampled=True)) as client:
            for path in ("/livez", "/readyz", "/health", "/metrics"):
                client.get(path)
            task = client.post("/v1/tasks", json={"title": "s3cr3t"}).json()
            client.get(f"/v1/tasks/{task['id']}", headers={"Authorization": "Bearer s3cr3t"})
            client.get("/v1/tasks", params={"q": "s3cr3t"})
        assert service.stop() == 0  # what was not sent yet is sent
    spans = collector.of(TRACE)
    servers = {span.name: span for span in spans if span.kind == Span.SPAN_KIND_SERVER}
    assert servers.keys() == {"POST /v1/tasks", "GET /v1/tasks/{task_id}", "GET /v1/tasks"}
    assert {span.parent_span_id.hex() for span in servers.values()} == {CALLER}
    by_id = {span.span_id: span for span in servers.values()}
    below = [span for span in spans if span.kind == Span.SPAN_KIND_CLIENT]
    assert len(servers) + len(below) == len(spans)  # none of single messages, dependencies, serialization
    assert {by_id[span.parent_span_id].name for span in below} == servers.keys()
    (read,) = [span for span in below if by_id[span.parent_span_id].name == "GET /v1/tasks/{task_id}"]
    assert attributes(read)["db.statement"].endswith("FROM tasks WHERE id = $1")
    route = attributes(servers["GET /v1/tasks/{task_id}"])
    assert (route["http.route"], route["http.response.status_code"]) == ("/v1/tasks/{task_id}", "200")
    assert attributes(servers["GET /v1/tasks"])["url.query"] == "REDACTED"
    assert not any("s3cr3t" in str(span) for span in spans)
    assert {span.trace_id.hex() for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER} == {TRACE}
    assert collector.resource["service.name"] == "task-api"
    assert collector.resource["service.revision"] == "dev"
    assert collector.resource["service.version"] == "9"
    assert collector.resource["deployment.environment.name"] == "test"


def test_the_line_of_a_request_has_the_trace_that_began_with_it(collector: Collector) -> None:
    with serving(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_TRACES_SAMPLER="always_on") as service:
        httpx2.get(f"{service.url}/v1/tasks")
        assert service.stop() == 0
    (line,) = [line for line in map(json.loads, service.log) if line["message"] == "request"]
    assert {span.trace_id.hex() for span in collector.spans} == {line["trace_id"]}


def test_the_caller_decides_what_is_traced_and_else_one_in_ten_is(collector: Collector) -> None:
    with serving(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_SERVICE_NAME="tasks", OTEL_BSP_SCHEDULE_DELAY="100"
    ) as service:
        sampled, unsampled = uuid4().hex, uuid4().hex
        with httpx2.Client(base_url=service.url) as client:
            for _ in range(5):
                client.get("/v1/tasks", headers=traceparent(sampled=True, trace=sampled))
                client.get("/v1/tasks", headers=traceparent(sampled=False, trace=unsampled))
            for _ in range(300):
                client.get("/v1/tasks")
        assert service.stop() == 0
    assert len(collector.of(sampled)) == 5
    assert len(collector.of(unsampled)) == 0
    # 30 of 300 are to be expected; outside of this it is in one of ten million runs.
    assert 5 <= len(collector.spans) - 5 <= 65
    assert collector.resource["service.name"] == "tasks"


@contextmanager
def _silent() -> Iterator[str]:
    """Takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def _nobody() -> Iterator[str]:
    with _silent() as url:
        pass
    yield url


@pytest.mark.parametrize("collector_that_is_not", [_silent, _nobody])
def test_without_a_collector_requests_are_answered_and_the_end_comes_in_time(
    collector_that_is_not: Callable[[], AbstractContextManager[str]],
) -> None:
    at_once = {"OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "5"}
    with (
        collector_that_is_not() as url,
        serving(OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_TRACES_SAMPLER="always_on", **at_once) as service,
    ):
        with httpx2.Client(base_url=service.url, timeout=5) as client:
            for _ in range(20):  # more than a batch, so that it is being sent
                assert client.get("/v1/tasks").status_code == 200
        start = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - start < 5
    assert any("traces were not sent" in line for line in service.log)


async def test_the_last_traces_are_sent_while_the_storage_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    both = asyncio.Barrier(2)

    async def wait_for_the_other(*_: object) -> None:
        await both.wait()

    monkeypatch.setattr(tracing, "end", wait_for_the_other)
    monkeypatch.setattr(TaskApi, "close", wait_for_the_other)
    app = create_app(Settings())
    async with asyncio.timeout(DEADLINE_SECONDS), app.router.lifespan_context(app):
        pass


def test_each_of_them_gets_the_second_that_the_chart_has_for_the_end() -> None:
    assert (tracing.END_SECONDS, CLOSE_SECONDS) == (1, 1)
