#!/usr/bin/env bash
# Guess: an event that is truncated by the end of the connection, before its blank line, is not delivered, as the standard says, so a
# client never sees half of one. The last event ID persists for later events without one.
# What happens: sseclient-py delivers the incomplete last event, so a truncated line of data becomes an event whose JSON cannot be parsed;
# and an event without an ID has the ID None. httpx-sse follows the standard.
# Packages: sseclient-py 1.9.0, httpx-sse 0.4.3, httpx 0.28.1
# Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check sseclient-py==1.9.0 httpx-sse==0.4.3 httpx==0.28.1

v/bin/python << 'PYTHON'
import sys

import httpx
import sseclient
from httpx_sse import EventSource

STREAM = b'id: 7\ndata: {"n": 1}\n\ndata: {"n": 2}\n\nid: 8\ndata: {"n":'
response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=STREAM)
by_httpx = [(event.id, event.data) for event in EventSource(response).iter_sse()]
by_sseclient = [(event.id, event.data) for event in sseclient.SSEClient(iter([STREAM])).events()]
print("httpx-sse:", by_httpx)
print("sseclient-py:", by_sseclient)
if by_httpx != [("7", '{"n": 1}'), ("7", '{"n": 2}')]:
    sys.exit("Changed: expected two events from httpx-sse, both with the ID 7")
if by_sseclient != [("7", '{"n": 1}'), (None, '{"n": 2}'), ("8", '{"n":')]:
    sys.exit("Changed: expected half an event as the third, and a second without an ID, from sseclient-py")
PYTHON
