#!/usr/bin/env bash
# Guess: a monthly rule that starts on the 31st recurs only in months with 31 days, and a yearly rule that starts on 29 February only in
# leap years, since RFC 5545 skips invalid dates.
# What happens: python-dateutil does so. rrule-temporal, which node-ical uses, takes the last day of February instead and then keeps it:
# the 31st is the 28th from then on. ical.js handles months correctly, but turns 29 February into 1 March. With BYMONTHDAY in the rule all
# of them are correct.
# Packages: python-dateutil 4.0.0; npm ical.js 2.2.1, rrule-temporal 1.6.0 (which node-ical 0.26.1 takes)
# Source: https://www.rfc-editor.org/rfc/rfc5545#section-3.3.10 ("invalid dates")
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check python-dateutil==4.0.0
npm install --silent --no-fund --no-audit --prefix . ical.js@2.2.1 rrule-temporal@1.6.0 > /dev/null

cat > dates.py << 'PYTHON'
import itertools
import sys

from dateutil.rrule import rrulestr

start, rule = sys.argv[1:]
found = rrulestr(f"DTSTART:{start.replace('-', '')}T090000Z\nRRULE:{rule}")
print(*(f"{each:%Y-%m-%d}" for each in itertools.islice(found, 5)))
PYTHON
cat > icaljs.mjs << 'JS'
import ICAL from "ical.js"
const [start, rule] = process.argv.slice(2)
const found = ICAL.Recur.fromString(rule).iterator(ICAL.Time.fromDateTimeString(`${start}T09:00:00Z`))
console.log(Array.from({ length: 5 }, () => found.next().toString().slice(0, 10)).join(" "))
JS
cat > temporal.mjs << 'JS'
import { RRuleTemporal } from "rrule-temporal"
const [start, rule] = process.argv.slice(2)
const found = new RRuleTemporal({ rruleString: `DTSTART:${start.replaceAll("-", "")}T090000Z\nRRULE:${rule}` })
console.log(found.all((_, count) => count < 5).slice(0, 5).map((each) => each.toString().slice(0, 10)).join(" "))
JS

changed=''
check() { # expected, start, rule, command
  local actual
  actual=$("${@:4}" "$2" "$3")
  echo "$3 from $2, ${*:4}: $actual"
  if [[ $actual != "$1" ]]; then changed=1; fi
}
months='2026-01-31 2026-03-31 2026-05-31 2026-07-31 2026-08-31'
check "$months" 2026-01-31 FREQ=MONTHLY v/bin/python dates.py
check "$months" 2026-01-31 FREQ=MONTHLY node icaljs.mjs
check '2026-01-31 2026-02-28 2026-03-28 2026-04-28 2026-05-28' 2026-01-31 FREQ=MONTHLY node temporal.mjs
years='2024-02-29 2028-02-29 2032-02-29 2036-02-29 2040-02-29'
check "$years" 2024-02-29 FREQ=YEARLY v/bin/python dates.py
check '2024-02-29 2025-03-01 2026-03-01 2027-03-01 2028-02-29' 2024-02-29 FREQ=YEARLY node icaljs.mjs
check '2024-02-29 2025-02-28 2026-02-28 2027-02-28 2028-02-28' 2024-02-29 FREQ=YEARLY node temporal.mjs
for command in 'v/bin/python dates.py' 'node icaljs.mjs' 'node temporal.mjs'; do
  read -ra command <<< "$command"
  check "$months" 2026-01-31 'FREQ=MONTHLY;BYMONTHDAY=31' "${command[@]}"
  check "$years" 2024-02-29 'FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29' "${command[@]}"
done
if [[ $changed ]]; then
  echo "Changed: expected the 28th from rrule-temporal and 1 March from ical.js" >&2
  exit 1
fi
