#!/usr/bin/env bash
# Guess: OTEL_EXPORTER_OTLP_TIMEOUT=10000 is ten seconds, since the specification counts it in milliseconds; and a collector's
# whole address, path included, can stand in OTEL_EXPORTER_OTLP_ENDPOINT.
# What happens: the exporter waits 10000 seconds. To the endpoint it appends the path once more, so that spans go to
# .../v1/traces/v1/traces; in OTEL_EXPORTER_OTLP_TRACES_ENDPOINT it takes an address as it is, and then appends nothing, not even
# where the path is missing.
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


def sent(**variables):
    """Where a span is sent, and how long is waited for it."""
    seen = []

    def send(session, request, **options):
        timeout = options["timeout"]
        seen.append((request.url, timeout[-1] if isinstance(timeout, tuple) else timeout))
        answer = requests.Response()
        answer.status_code = 200
        return answer

    with patch.dict(os.environ, variables), patch.object(requests.Session, "send", send):
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
        provider.get_tracer("a").start_span("b").end()
    print(variables, "->", *seen)
    return seen[0]


changed = [
    sent(OTEL_EXPORTER_OTLP_TIMEOUT="10000")[1] < 9000,
    sent(OTEL_EXPORTER_OTLP_ENDPOINT=f"{BASE}/v1/traces")[0] != f"{BASE}/v1/traces/v1/traces",
    sent(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=BASE)[0] != f"{BASE}/",
]
if any(changed):
    sys.exit("This has changed: seconds, the path twice and no path were expected")
PYTHON
v/bin/python collector.py
