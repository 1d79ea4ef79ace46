#!/usr/bin/env bash
# Guess: `todo done` writes back a VTODO with its status changed and everything else unchanged, including categories with a comma in their
# name, which RFC 5545 escapes. So it can share a calendar with other programs.
# What happens: todoman caches the categories as one comma-separated string and splits it at every comma. Marking a task as done turns
# `salt, pepper` into two categories, the second with a leading space, and writes them to the file.
# Packages: todoman 4.7.0, icalendar 7.3.2
# Source: https://www.rfc-editor.org/rfc/rfc5545#section-3.8.1.2
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check todoman==4.7.0 icalendar==7.3.2

mkdir list
printf '%s\r\n' BEGIN:VCALENDAR VERSION:2.0 PRODID:-//example//EN BEGIN:VTODO UID:1 DTSTAMP:20261129T080000Z \
  SUMMARY:Cook 'CATEGORIES:salt\, pepper,oil' END:VTODO END:VCALENDAR > list/1.ics
printf 'path = "%s/list"\ncache_path = "%s/cache"\n' "$folder" "$folder" > config.py
categories() {
  v/bin/python -c 'import icalendar
(task,) = icalendar.Calendar.from_ical(open("list/1.ics", "rb").read()).walk("VTODO")
print(task["STATUS"] if "STATUS" in task else "open", sorted(str(each) for each in task.categories))'
}
before=$(categories)
v/bin/todo --config config.py 'done' 1 > /dev/null
after=$(categories)
printf 'before: %s\nafter:  %s\n' "$before" "$after"
if [[ "$before" != "open ['oil', 'salt, pepper']" || "$after" != "COMPLETED [' pepper', 'oil', 'salt']" ]]; then
  echo "Changed: expected two categories before and three after" >&2
  exit 1
fi
