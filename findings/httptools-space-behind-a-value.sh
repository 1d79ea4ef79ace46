#!/usr/bin/env bash
# Guess: whitespace around a header value is not part of it (RFC 9110), and every HTTP parser strips it on both sides.
# What happens: httptools, which uvicorn uses if it is installed, strips only leading whitespace: `X-Plan:  free  ` becomes `free  `. h11,
# which uvicorn uses otherwise, returns `free`, so an application sees a different value once httptools is installed.
# Packages: httptools 0.9.0, h11 0.16.0
# Source: https://www.rfc-editor.org/rfc/rfc9110#section-5.5
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check httptools==0.9.0 h11==0.16.0

v/bin/python << 'PYTHON'
import sys

import h11
import httptools

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Plan:  free  \r\n\r\n"


class Headers(dict):
    def on_header(self, name, value):
        self[name.lower()] = value


by_httptools = Headers()
httptools.HttpRequestParser(by_httptools).feed_data(REQUEST)
connection = h11.Connection(h11.SERVER)
connection.receive_data(REQUEST)
by_h11 = dict(connection.next_event().headers)
actual = by_httptools[b"x-plan"], by_h11[b"x-plan"]
print(f"httptools: {actual[0]}, h11: {actual[1]}")
if actual != (b"free  ", b"free"):
    sys.exit("Changed: expected trailing spaces from httptools and none from h11")
PYTHON
