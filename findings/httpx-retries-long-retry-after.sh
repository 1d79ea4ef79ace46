#!/usr/bin/env bash
# Guess: a client that respects `Retry-After` waits as long as the server asks, or gives up if that exceeds its maximum wait.
# What happens: httpx-retries does neither: instead of an hour it waits two minutes, `max_backoff_wait`, and retries up to its limit, so
# every retry is too early. A date is treated the same.
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
actual = []
for value in ("5", "3600", formatdate(time.time() + 3600, usegmt=True)):
    waits.clear()
    mock = httpx.MockTransport(lambda _request: httpx.Response(429, headers={"Retry-After": value}))
    with httpx.Client(transport=RetryTransport(transport=mock, retry=Retry(total=2))) as client:
        status = client.get("http://localhost/").status_code
    print(f"Retry-After: {value}: waits {waits}, then {status}")
    actual.append([*waits, status])
if actual != [[5, 5, 429], [120, 120, 429], [120, 120, 429]]:
    sys.exit("Changed: expected waits of 5 s, and of 120 s instead of an hour")
PYTHON
