#!/usr/bin/env bash
# Guess: an event that the end of the connection cuts off before its blank line is not handed over, as the standard says, so a reader
# never sees half of one. The id of the last event stays that of those after it which have none.
# What happens: sseclient-py hands over what it has of the last event, so that a line of data that is cut off comes as an event of its
# own, and its JSON cannot be read; and an event without an id has the id None. httpx-sse does what the standard says.
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
answer = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=STREAM)
by_httpx = [(event.id, event.data) for event in EventSource(answer).iter_sse()]
by_sseclient = [(event.id, event.data) for event in sseclient.SSEClient(iter([STREAM])).events()]
print("httpx-sse:", by_httpx)
print("sseclient-py:", by_sseclient)
if by_httpx != [("7", '{"n": 1}'), ("7", '{"n": 2}')]:
    sys.exit("This has changed: two events, both with the id 7, were expected of httpx-sse")
if by_sseclient != [("7", '{"n": 1}'), (None, '{"n": 2}'), ("8", '{"n":')]:
    sys.exit("This has changed: half an event as the third, and no id of the second were expected of sseclient-py")
PYTHON
