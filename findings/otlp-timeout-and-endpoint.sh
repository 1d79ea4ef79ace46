#!/usr/bin/env bash
# Guess: OTEL_EXPORTER_OTLP_TIMEOUT=10000 is ten seconds, since the specification uses milliseconds; and OTEL_EXPORTER_OTLP_ENDPOINT
# accepts a collector's complete URL, including the path.
# What happens: the timeout is 10000 seconds. The path is appended to the endpoint again, so spans go to .../v1/traces/v1/traces;
# OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is used unchanged, and nothing is appended, even if the path is missing.
# Packages: opentelemetry-exporter-otlp-proto-http 1.45.1
# Source: https://opentelemetry.io/docs/specs/otel/protocol/exporter/
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check opentelemetry-exporter-otlp-proto-http==1.45.1

cat > collector.py << 'PYTHON'
import os
import sys
from unittest.mock import patch

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

BASE = "http://127.0.0.1:4318"


def exported_request(**variables):
    """The URL and the timeout of the request that exports a span."""
    exported = []

    def send(session, request, **options):
        timeout = options["timeout"]
        exported.append((request.url, timeout[-1] if isinstance(timeout, tuple) else timeout))
        response = requests.Response()
        response.status_code = 200
        return response

    with patch.dict(os.environ, variables), patch.object(requests.Session, "send", send):
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
        provider.get_tracer("a").start_span("b").end()
    print(variables, "->", *exported)
    return exported[0]


changed = [
    exported_request(OTEL_EXPORTER_OTLP_TIMEOUT="10000")[1] < 9000,
    exported_request(OTEL_EXPORTER_OTLP_ENDPOINT=f"{BASE}/v1/traces")[0] != f"{BASE}/v1/traces/v1/traces",
    exported_request(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=BASE)[0] != f"{BASE}/",
]
if any(changed):
    sys.exit("Changed: expected seconds, the path twice and no path")
PYTHON
v/bin/python collector.py
