#!/usr/bin/env bash
# Guess: a parser of server-sent events delivers an event for a block that contains `data`, and for no other: a keep-alive comment, or a
# lone `retry:` or `id:`, produces none, as the standard says.
# What happens: httpx-sse delivers an event without data for a block with only `retry:` or only `id:`; and after the first id, for every
# block, even a lone comment. So each heartbeat is an event, and clients that parse its data as JSON fail.
# Packages: httpx-sse 0.4.3, httpx 0.28.1
# Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check httpx-sse==0.4.3 httpx==0.28.1

v/bin/python << 'PYTHON'
import sys

import httpx
from httpx_sse import EventSource

BLOCKS = {
    "a comment": b": still here\n\n",
    "retry alone": b"retry: 3000\n\n",
    "data with an id": b"id: 7\ndata: {}\n\n",
    "a comment after an id": b"data: {}\nid: 7\n\n: still here\n\n",
}
actual = []
for title, text in BLOCKS.items():
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=text)
    data = [event.data for event in EventSource(response).iter_sse()]
    print(f"{title}: {data}")
    actual.append(data)
if actual != [[], [""], ["{}"], ["{}", ""]]:
    sys.exit("Changed: expected an empty event for a lone retry and for a comment after an id")
PYTHON
