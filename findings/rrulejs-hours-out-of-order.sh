#!/usr/bin/env bash
# Guess: `rule.all()` and `rule.after()` of rrule.js return occurrences in chronological order, whatever the order of the values of
# BYHOUR: RFC 5545 defines sets, and python-dateutil, of which rrule.js is a port, sorts them.
# What happens: within a day they are returned in the order of BYHOUR. COUNT then ends a day at the wrong one, and `after()` skips those
# listed after a later one.
# Packages: rrule (npm) 2.8.1, python-dateutil 4.0.0
# Source: https://www.rfc-editor.org/rfc/rfc5545#section-3.3.10
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check python-dateutil==4.0.0
npm install --silent --no-audit --no-fund rrule@2.8.1 > npm.log 2>&1 || { cat npm.log && exit 1; }

cat > occurrences.py << 'PY'
from datetime import datetime

from dateutil.rrule import rrulestr

rule = rrulestr("DTSTART:20270106T060000\nRRULE:FREQ=DAILY;BYHOUR=18,9;COUNT=3")
print(*(f"{occurrence:%d.%H}" for occurrence in rule), f"{rule.after(datetime(2027, 1, 6, 6)):%d.%H}")
PY
cat > occurrences.cjs << 'JS'
const { rrulestr } = require("rrule");

const rule = rrulestr("DTSTART:20270106T060000Z\nRRULE:FREQ=DAILY;BYHOUR=18,9;COUNT=3");
const format = (occurrence) => `${occurrence.toISOString().slice(8, 10)}.${occurrence.toISOString().slice(11, 13)}`;
console.log([...rule.all(), rule.after(new Date("2027-01-06T06:00:00Z"))].map(format).join(" "));
JS
by_dateutil=$(venv/bin/python occurrences.py)
by_rrule=$(node occurrences.cjs)
echo 'Three occurrences at 18:00 and 09:00 from the 6th on, as day.hour, then the first after 06:00 on the 6th:'
echo "python-dateutil: $by_dateutil"
echo "rrule.js:        $by_rrule"
if [[ $by_dateutil != '06.09 06.18 07.09 06.09' || $by_rrule != '06.18 06.09 07.18 06.18' ]]; then
  echo 'Changed: expected rrule.js to return 18 before 9'
  exit 1
fi
