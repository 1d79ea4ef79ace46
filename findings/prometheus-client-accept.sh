#!/usr/bin/env bash
# Guess: prometheus_client chooses between its text format and OpenMetrics by the weights of Accept, as HTTP says: `q=0` is
# never given, and of two the heavier wins. For an OpenMetrics version that it cannot write it falls back to one that it can.
# What happens: no weight is looked at, so OpenMetrics is given to whoever mentions it, even with `q=0`. Asked for version 2.0.0
# it says 2.0.0 in the content type, and the body is what it writes for 1.0.0, to the byte.
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
OPEN = "application/openmetrics-text"


def given(accept):
    encode, content_type = choose_encoder(accept)
    print(f"Accept: {accept}\n  -> {content_type}")
    return content_type, encode(registry)


assert given(f"text/plain;q=1, {OPEN};version=1.0.0;q=0.1")[0].startswith(OPEN)
assert given(f"text/plain, {OPEN};version=1.0.0;q=0")[0].startswith(OPEN)
first = given(f"{OPEN};version=1.0.0")
second = given(f"{OPEN};version=2.0.0")
assert "version=2.0.0" in second[0]
assert first[1] == second[1]
PYTHON
