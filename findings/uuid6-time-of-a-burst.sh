#!/usr/bin/env bash
# Guess: a UUIDv7 contains the millisecond in which it was created; a counter orders those created within one millisecond, as RFC 9562
# describes, and the timestamp runs ahead of the clock by a few milliseconds at most, if that counter overflows.
# What happens: uuid6 has no counter: each ID after the first is a millisecond later than the previous one, whatever the clock says. The
# last of 20000 created in less than a second is dated 19 seconds ahead, and so is every ID that the process creates next. uuid_utils
# follows the clock.
# Packages: uuid6 2025.0.1, uuid_utils 1.2.0
# Source: https://www.rfc-editor.org/rfc/rfc9562#section-6.2
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check uuid6==2025.0.1 uuid_utils==1.2.0

v/bin/python << 'PYTHON'
import sys
import time

import uuid6
import uuid_utils

COUNT = 20000
ahead = {}
for library in (uuid6, uuid_utils):
    started = time.time()
    ids = [library.uuid7().int for _ in range(COUNT)]
    ended = time.time()
    assert ids == sorted(set(ids))
    ahead[library.__name__] = (ids[-1] >> 80) - ended * 1000
    print(f"{library.__name__}: {COUNT} IDs in {ended - started:.2f} s, the last one {ahead[library.__name__]:.0f} ms ahead")
    if (ids[-1] >> 80) - (ids[0] >> 80) < COUNT - 1 and library is uuid6:
        sys.exit("Changed: expected uuid6 to advance a millisecond per ID")
if ahead["uuid_utils"] > 1000:
    sys.exit("Changed: expected the IDs of uuid_utils to follow the clock")
PYTHON
