#!/usr/bin/env bash
# Guess: prometheus_client chooses between its text format and OpenMetrics by the weights of Accept, as HTTP specifies: `q=0` is never
# sent, and the higher weight wins. For an unsupported OpenMetrics version it falls back to a supported one.
# What happens: weights are ignored, so a client that mentions OpenMetrics gets it, even with `q=0`. For version 2.0.0 the content type
# says 2.0.0, while the body is byte-identical to that of 1.0.0.
# Packages: prometheus_client 0.26.0
# Source: https://www.rfc-editor.org/rfc/rfc9110#section-12.4.2 (weights)
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check prometheus_client==0.26.0

v/bin/python << 'PYTHON'
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import choose_encoder

registry = CollectorRegistry()
Gauge("rooms", "Rooms that are free", registry=registry).set(3)
OPENMETRICS = "application/openmetrics-text"


def encode_for(accept):
    encode, content_type = choose_encoder(accept)
    print(f"Accept: {accept}\n  -> {content_type}")
    return content_type, encode(registry)


assert encode_for(f"text/plain;q=1, {OPENMETRICS};version=1.0.0;q=0.1")[0].startswith(OPENMETRICS)
assert encode_for(f"text/plain, {OPENMETRICS};version=1.0.0;q=0")[0].startswith(OPENMETRICS)
first = encode_for(f"{OPENMETRICS};version=1.0.0")
second = encode_for(f"{OPENMETRICS};version=2.0.0")
assert "version=2.0.0" in second[0]
assert first[1] == second[1]
PYTHON
