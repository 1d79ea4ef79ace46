#!/usr/bin/env bash
# Guess: ical.js, which Thunderbird and Nextcloud use to show calendars, supports BYHOUR, BYSETPOS and BYWEEKNO for every frequency for
# which RFC 5545 defines them.
# What happens: of two hours on one day of each year it returns only the first. With FREQ=DAILY it ignores BYSETPOS, so the last of two
# hours is both of them. The Monday of week 52 is every Monday from the following week on. python-dateutil returns the intended dates.
# Packages: python-dateutil 4.0.0; npm ical.js 2.2.1
# Source: https://www.rfc-editor.org/rfc/rfc5545#section-3.3.10
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check python-dateutil==4.0.0
npm install --silent --no-fund --no-audit --prefix . ical.js@2.2.1 > /dev/null

cat > icaljs.mjs << 'JS'
import ICAL from "ical.js"
const [start, rule] = process.argv.slice(2)
const found = ICAL.Recur.fromString(rule).iterator(ICAL.Time.fromDateTimeString(`${start}:00Z`))
console.log(JSON.stringify(Array.from({ length: 3 }, () => found.next().toString().slice(0, 16))))
JS
v/bin/python << 'PYTHON'
import itertools
import json
import subprocess
import sys
from datetime import datetime

from dateutil.rrule import rrulestr

RULES = {  # rule: start, what ical.js returns
    "FREQ=YEARLY;BYMONTH=11;BYMONTHDAY=30;BYHOUR=19,21": (
        "2026-11-30T19:00",
        ["2026-11-30T19:00", "2027-11-30T19:00", "2028-11-30T19:00"],
    ),
    "FREQ=DAILY;BYHOUR=9,17;BYSETPOS=-1": (
        "2026-11-30T17:00",
        ["2026-11-30T17:00", "2026-12-01T09:00", "2026-12-01T17:00"],
    ),
    "FREQ=YEARLY;BYWEEKNO=52;BYDAY=MO": (
        "2026-12-21T09:00",
        ["2026-12-28T09:00", "2027-01-04T09:00", "2027-01-11T09:00"],
    ),
}
changed = False
for rule, (start, expected) in RULES.items():
    by_dateutil = itertools.islice(rrulestr(rule, dtstart=datetime.fromisoformat(start)), 3)
    node = ["node", "icaljs.mjs", start, rule]
    by_icaljs = json.loads(subprocess.run(node, check=True, capture_output=True, text=True).stdout)
    print(f"{rule} from {start}\n  dateutil: {', '.join(f'{each:%Y-%m-%dT%H:%M}' for each in by_dateutil)}")
    print(f"  ical.js:  {', '.join(by_icaljs)}")
    changed = changed or by_icaljs != expected
if changed:
    sys.exit("Changed: expected one hour of two, both for the last one, and every Monday from ical.js")
PYTHON
