"""A fake OpenTelemetry collector, and the trace context of a caller."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"


class Collector:
    """The spans and the resource that the collector has received."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Span] = []
        self.resource: dict[str, str] = {}

    def receive(self, body: bytes) -> None:
        for spans in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resource = {item.key: item.value.string_value for item in spans.resource.attributes}
            for scope in spans.scope_spans:
                self.spans += scope.spans

    def spans_of(self, trace: str) -> list[Span]:
        return [span for span in self.spans if span.trace_id.hex() == trace]

    def requests(self, trace: str) -> dict[str, Span]:
        """The server spans of this trace, by name."""
        return {span.name: span for span in self.spans_of(trace) if span.kind == Span.SPAN_KIND_SERVER}

    def statements(self, request: Span) -> list[str]:
        """The database statements of a request: the child spans of its span."""
        children = [span for span in self.spans if span.parent_span_id == request.span_id]
        return [attributes(span)["db.statement"] for span in children if span.kind == Span.SPAN_KIND_CLIENT]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            collector.receive(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # the default writes to the test output
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield collector
        server.shutdown()
        thread.join()


def attributes(span: Span) -> dict[str, str]:
    return {item.key: item.value.string_value or str(item.value.int_value) for item in span.attributes}


def traceparent(*, sampled: bool, trace: str = TRACE) -> dict[str, str]:
    return {"traceparent": f"00-{trace}-{CALLER}-0{sampled:d}"}
