#!/usr/bin/env bash
# Guess: a client that heeds `Retry-After` waits as long as the server asks, or gives up where that is more than it is willing to wait.
# What happens: httpx-retries does neither: of an hour it waits two minutes, `max_backoff_wait`, and asks again, as often as it may,
# so each of its tries is one too early. A date is treated the same.
# Packages: httpx-retries 0.6.0, httpx 0.28.1
# Source: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check httpx-retries==0.6.0 httpx==0.28.1

v/bin/python << 'PYTHON'
import sys
import time
from email.utils import formatdate

import httpx
from httpx_retries import Retry, RetryTransport

waits = []
time.sleep = waits.append
seen = []
for asked in ("5", "3600", formatdate(time.time() + 3600, usegmt=True)):
    waits.clear()
    answers = httpx.MockTransport(lambda _request: httpx.Response(429, headers={"Retry-After": asked}))
    with httpx.Client(transport=RetryTransport(transport=answers, retry=Retry(total=2))) as client:
        status = client.get("http://localhost/").status_code
    print(f"Retry-After: {asked}: waits {waits}, then {status}")
    seen.append([*waits, status])
if seen != [[5, 5, 429], [120, 120, 429], [120, 120, 429]]:
    sys.exit("This has changed: waits of 5 s, and of 120 s in place of an hour were expected")
PYTHON
