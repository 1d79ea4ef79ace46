#!/usr/bin/env bash
# Guess: a quote or line break in a parameter, such as the name of an attendee, is encoded as `^'` and `^n`, as RFC 6868 has specified
# since 2013, and iCalendar parsers decode it.
# What happens: icalendar and ical.js do. vobject and node-ical return the name with the carets.
# Packages: icalendar 7.3.2, vobject 0.9.9; npm ical.js 2.2.1, node-ical 0.26.1
# Source: https://www.rfc-editor.org/rfc/rfc6868#section-3
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check icalendar==7.3.2 vobject==0.9.9
npm install --silent --no-fund --no-audit --prefix . ical.js@2.2.1 node-ical@0.26.1 > /dev/null

printf '%s\r\n' BEGIN:VCALENDAR VERSION:2.0 PRODID:-//example//EN BEGIN:VEVENT UID:1 DTSTAMP:20261129T080000Z \
  DTSTART:20261129T090000Z "ATTENDEE;CN=\"The ^'A^' team\":mailto:a@example.com" END:VEVENT END:VCALENDAR > a.ics
cat > names.mjs << 'JS'
import { readFileSync } from "node:fs"
import ICAL from "ical.js"
import ical from "node-ical"
const text = readFileSync("a.ics", "utf8")
const event = new ICAL.Component(ICAL.parse(text)).getFirstSubcomponent("vevent")
const names = [event.getFirstProperty("attendee").getParameter("cn"), ical.sync.parseICS(text)["1"].attendee.params.CN]
console.log(JSON.stringify(names))
JS
node names.mjs > by-node
v/bin/python << 'PYTHON'
import json
import sys

import icalendar
import vobject

text = open("a.ics", newline="").read()
(event,) = icalendar.Calendar.from_ical(text).walk("VEVENT")
actual = {
    "icalendar": event["ATTENDEE"].params["CN"],
    "vobject": vobject.readOne(text).vevent.attendee.params["CN"][0],
    **dict(zip(("ical.js", "node-ical"), json.load(open("by-node")))),
}
for library, name in actual.items():
    print(f"{library}: {name}")
QUOTED, CARETS = 'The "A" team', "The ^'A^' team"
if actual != {"icalendar": QUOTED, "vobject": CARETS, "ical.js": QUOTED, "node-ical": CARETS}:
    sys.exit("Changed: expected quotes from icalendar and ical.js, carets from vobject and node-ical")
PYTHON
