#!/usr/bin/env bash
# Guess: `RDATE:A,B` in a VTIMEZONE is equivalent to the two lines `RDATE:A` and `RDATE:B`: RFC 5545 allows RDATE to be a list.
# What happens: ical.js uses only the first value of each line. From the second clock change on, nine o'clock in that time zone is
# silently off by an hour.
# Packages: ical.js (npm) 2.2.1
# Source: https://www.rfc-editor.org/rfc/rfc5545#section-3.8.5.2
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

npm install --silent --no-audit --no-fund ical.js@2.2.1 > npm.log 2>&1 || { cat npm.log && exit 1; }
cat > summers.mjs << 'JS'
import ICAL from "ical.js";

function summers(...rdates) {
  const text = [
    "BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//example//EN", "BEGIN:VTIMEZONE", "TZID:Example",
    "BEGIN:STANDARD", "DTSTART:20261025T030000", "TZOFFSETFROM:+0200", "TZOFFSETTO:+0100", "RDATE:20271031T030000", "END:STANDARD",
    "BEGIN:DAYLIGHT", "DTSTART:20260329T020000", "TZOFFSETFROM:+0100", "TZOFFSETTO:+0200", ...rdates, "END:DAYLIGHT",
    "END:VTIMEZONE", "END:VCALENDAR",
  ].join("\r\n");
  const zone = new ICAL.Timezone(new ICAL.Component(ICAL.parse(text)).getFirstSubcomponent("vtimezone"));
  const nine = (year) => new ICAL.Time({ year, month: 7, day: 1, hour: 9, isDate: false }, zone);
  return [2027, 2028].map((year) => nine(year).toJSDate().toISOString().slice(0, 16) + "Z").join(" ");
}
console.log(summers("RDATE:20270328T020000,20280326T020000"));
console.log(summers("RDATE:20270328T020000", "RDATE:20280326T020000"));
JS
{ read -r listed && read -r by_line; } < <(node summers.mjs)
echo '09:00 on 2027-07-01 and 2028-07-01, in summer time (UTC+2):'
echo "one RDATE with both changes: $listed"
echo "one RDATE for each:          $by_line"
if [[ $listed != '2027-07-01T07:00Z 2028-07-01T08:00Z' || $by_line != '2027-07-01T07:00Z 2028-07-01T07:00Z' ]]; then
  echo 'Changed: expected ical.js to ignore the second value of the list'
  exit 1
fi
