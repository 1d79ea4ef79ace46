#!/usr/bin/env bash
# Guess: BYSETPOS with FREQ=WEEKLY counts within the whole week, including the week of DTSTART: occurrences before DTSTART are counted and
# then skipped. RFC 5545 defines a set of occurrences for each interval of the frequency.
# What happens: python-dateutil and rrule.js both count only the rest of the first week, so a rule for the first of Monday and Friday that
# starts on a Wednesday begins with that week's Friday; every later week is correct.
# Packages: python-dateutil 4.0.0, rrule (npm) 2.8.1
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
from dateutil.rrule import rrulestr

rule = rrulestr("DTSTART:20270106T090000\nRRULE:FREQ=WEEKLY;BYDAY=MO,FR;BYSETPOS=1;COUNT=3")
print(*(occurrence.date() for occurrence in rule))
PY
cat > occurrences.cjs << 'JS'
const { rrulestr } = require("rrule");

const rule = rrulestr("DTSTART:20270106T090000Z\nRRULE:FREQ=WEEKLY;BYDAY=MO,FR;BYSETPOS=1;COUNT=3");
console.log(rule.all().map((occurrence) => occurrence.toISOString().slice(0, 10)).join(" "));
JS
by_dateutil=$(venv/bin/python occurrences.py)
by_rrule=$(node occurrences.cjs)
echo "The first of Monday and Friday of each week, from Wednesday 2027-01-06:"
echo "python-dateutil: $by_dateutil"
echo "rrule.js:        $by_rrule"
expected='2027-01-08 2027-01-11 2027-01-18'
if [[ $by_dateutil != "$expected" || $by_rrule != "$expected" ]]; then
  echo 'Changed: expected the Friday of the first week, 2027-01-08'
  exit 1
fi
