#!/usr/bin/env bash
# Guess: a reader of server-sent events hands over an event for a block that holds `data`, and for no other: a comment that keeps
# the connection alive, a `retry:` or an `id:` alone make none, as the standard says.
# What happens: httpx-sse hands over an event without data for a block of only `retry:` or only `id:`; and once any id was seen, for
# every block, a lone comment too. So each heartbeat is an event, and whoever reads its data as JSON fails on it.
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
seen = []
for title, text in BLOCKS.items():
    answer = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=text)
    data = [event.data for event in EventSource(answer).iter_sse()]
    print(f"{title}: {data}")
    seen.append(data)
if seen != [[], [""], ["{}"], ["{}", ""]]:
    sys.exit("This has changed: of a lone retry and of a comment after an id an empty event each was expected")
PYTHON
