#!/usr/bin/env bash
# Guess: rrule.js, a port of python-dateutil, counts INTERVAL from the first occurrence, also where BYHOUR leaves out hours between.
# What happens: with FREQ=MINUTELY it loses count: after the hours that BYHOUR leaves out, occurrences are no multiples of INTERVAL after
# the first any more. python-dateutil keeps it.
# Packages: rrule (npm) 2.8.1, python-dateutil 4.0.0
# Source: https://www.rfc-editor.org/rfc/rfc5545#section-3.3.10
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check python-dateutil==4.0.0
npm install --silent --no-audit --no-fund rrule@2.8.1 > npm.log 2>&1 || { cat npm.log && exit 1; }

cat > occurrences.py << 'PY'
from itertools import islice

from dateutil.rrule import rrulestr

rule = rrulestr("DTSTART:20261017T052400\nRRULE:FREQ=MINUTELY;INTERVAL=7;BYHOUR=5,18;BYMINUTE=24,29,57")
first, *others = islice(rule, 4)
print(*(f"{occurrence:%d.%H:%M}/{(occurrence - first).total_seconds() / 60 % 7:.0f}" for occurrence in others))
PY
cat > occurrences.cjs << 'JS'
const { rrulestr } = require("rrule");

const rule = rrulestr("DTSTART:20261017T052400Z\nRRULE:FREQ=MINUTELY;INTERVAL=7;BYHOUR=5,18;BYMINUTE=24,29,57");
const [first, ...others] = rule.all((_, index) => index < 4);
const format = (occurrence) =>
  `${occurrence.toISOString().slice(8, 16).replace("T", ".")}/${((occurrence - first) / 60000) % 7}`;
console.log(others.map(format).join(" "));
JS
by_dateutil=$(venv/bin/python occurrences.py)
by_rrule=$(node occurrences.cjs)
echo 'Occurrences after the first, every 7 minutes, as day.hour:minute/minutes too late for a multiple of 7:'
echo "python-dateutil: $by_dateutil"
echo "rrule.js:        $by_rrule"
if [[ $by_dateutil != '21.18:29/0 21.18:57/0 22.18:24/0' || $by_rrule != '19.05:29/1 19.05:57/1 20.18:24/4' ]]; then
  echo 'Changed: expected rrule.js to lose count of the minutes'
  exit 1
fi
