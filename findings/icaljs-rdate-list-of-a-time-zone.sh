#!/usr/bin/env bash
# Guess: `RDATE:A,B` in a VTIMEZONE says what two lines, `RDATE:A` and `RDATE:B`, say: RFC 5545 lets RDATE be a list.
# What happens: ical.js takes the first value of each line alone. From the second change of clocks on, what is at nine by that time
# zone is an hour off, without a word.
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
echo 'Nine in the morning of 2027-07-01 and 2028-07-01, in summer two hours before UTC:'
echo "one RDATE with both changes: $listed"
echo "an RDATE for each of them:   $by_line"
if [[ $listed != '2027-07-01T07:00Z 2028-07-01T08:00Z' || $by_line != '2027-07-01T07:00Z 2028-07-01T07:00Z' ]]; then
  echo 'That has changed: the second value of the list was passed over.'
  exit 1
fi
