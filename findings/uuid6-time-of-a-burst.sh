#!/usr/bin/env bash
# Guess: a UUIDv7 says the millisecond in which it was made; of those made within one millisecond a counter keeps the order, as
# RFC 9562 describes, and the time goes ahead of the clock by some milliseconds at most, where that counter is full.
# What happens: uuid6 has no counter: each id after the first is a millisecond later than the one before it, whatever the clock says.
# The last of 20000 that are made in less than a second is dated 19 seconds ahead, and so is every id that the process makes next.
# uuid_utils keeps to the clock.
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
    print(f"{library.__name__}: {COUNT} ids in {ended - started:.2f} s, the last one {ahead[library.__name__]:.0f} ms ahead")
    if (ids[-1] >> 80) - (ids[0] >> 80) < COUNT - 1 and library is uuid6:
        sys.exit("This has changed: a millisecond for each id was expected of uuid6")
if ahead["uuid_utils"] > 1000:
    sys.exit("This has changed: ids that keep to the clock were expected of uuid_utils")
PYTHON
