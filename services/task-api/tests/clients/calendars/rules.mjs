// Reads [{start: "2026-01-01T09:00:00Z", rule: "FREQ=...", count: 5}, ...], and writes for each the first `count`
// occurrences after the start, according to rrule.js: [["2026-01-02T09:00:00.000Z", ...], ...].
import { readFileSync } from "node:fs";
import rrule from "rrule";

function occurrences({ start, rule, count }) {
  const dtstart = new Date(start);
  const found = [];
  new rrule.RRule({ ...rrule.RRule.parseString(rule), dtstart }).all((date) => {
    if (date > dtstart) found.push(date);
    return found.length < count;
  });
  return found;
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, "utf-8")).map(occurrences)));
