#!/usr/bin/env bash
# Guess: BYSETPOS with FREQ=WEEKLY counts within the whole week, also within the week of DTSTART: what comes before DTSTART is
# counted and left out. RFC 5545 has a set of occurrences for each interval of the frequency.
# What happens: python-dateutil and rrule.js both count only what is left of the first week, so a rule for the first of Monday and
# Friday that starts on a Wednesday begins with that week's Friday; every week after it is right.
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
print(*(moment.date() for moment in rule))
PY
cat > occurrences.cjs << 'JS'
const { rrulestr } = require("rrule");

const rule = rrulestr("DTSTART:20270106T090000Z\nRRULE:FREQ=WEEKLY;BYDAY=MO,FR;BYSETPOS=1;COUNT=3");
console.log(rule.all().map((moment) => moment.toISOString().slice(0, 10)).join(" "));
JS
by_dateutil=$(venv/bin/python occurrences.py)
by_rrule=$(node occurrences.cjs)
echo "From Wednesday, 2027-01-06, the first of Monday and Friday of each week:"
echo "python-dateutil: $by_dateutil"
echo "rrule.js:        $by_rrule"
seen='2027-01-08 2027-01-11 2027-01-18'
if [[ $by_dateutil != "$seen" || $by_rrule != "$seen" ]]; then
  echo 'That has changed: the first was the Friday of the week that had begun, 2027-01-08.'
  exit 1
fi
