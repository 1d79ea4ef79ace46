#!/usr/bin/env bash
# Guess: iCalendar parsers undo the escaping of text in RFC 5545: `\\` is a backslash, `\n` a line break, `\,` a comma, scanned from left
# to right, so `C:\\new` is read as `C:\new`. In CATEGORIES `\,` is a comma within a category.
# What happens: ics.py and node-ical replace one escape sequence after the other, so the `n` after the escaped backslash becomes a line
# break: both read `C:\` and `ew` on two lines. node-ical also splits a category at its escaped comma. icalendar parses everything
# correctly.
# Packages: ics 0.7.3, icalendar 7.3.0; npm node-ical 0.26.1
# Source: https://www.rfc-editor.org/rfc/rfc5545#section-3.3.11
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check ics==0.7.3 icalendar==7.3.0
npm install --silent --no-fund --no-audit --prefix . node-ical@0.26.1 > /dev/null

printf '%s\r\n' BEGIN:VCALENDAR VERSION:2.0 PRODID:-//example//EN BEGIN:VEVENT UID:1 DTSTAMP:20261129T080000Z \
  DTSTART:20261129T090000Z 'SUMMARY:C:\\new' 'CATEGORIES:salt\, pepper,oil' END:VEVENT END:VCALENDAR > a.ics
node -e 'const event = require("node-ical").sync.parseFile("a.ics")["1"]
console.log(JSON.stringify([event.summary, event.categories.length]))' > by-node
v/bin/python << 'PYTHON'
import json
import sys

import icalendar
import ics

text = open("a.ics", newline="").read()
(event,) = icalendar.Calendar.from_ical(text).walk("VEVENT")
(other,) = ics.Calendar(text).events
actual = {
    "icalendar": [str(event["SUMMARY"]), len(event.categories)],
    "ics": [other.name, len(other.categories)],
    "node-ical": json.load(open("by-node")),
}
for library, (title, categories) in actual.items():
    print(f"{library}: {title!r}, {categories} categories")
if actual != {"icalendar": [r"C:\new", 2], "ics": ["C:\\\new", 2], "node-ical": ["C:\\\new", 3]}:
    sys.exit("Changed: expected one correct, two with a line break, three categories from node-ical")
PYTHON
