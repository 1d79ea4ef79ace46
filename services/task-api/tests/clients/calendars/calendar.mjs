// Reads a calendar, and writes for each VTODO the first occurrences of its rule, in UTC, by its own VTIMEZONE:
// {uid: [...]}. Where it has none: [].
import { readFileSync } from "node:fs";
import ICAL from "ical.js";

const calendar = new ICAL.Component(ICAL.parse(readFileSync(0, "utf-8")));
for (const zone of calendar.getAllSubcomponents("vtimezone")) ICAL.TimezoneService.register(zone);
const found = {};
for (const todo of calendar.getAllSubcomponents("vtodo")) {
  const times = (found[todo.getFirstPropertyValue("uid")] = []);
  if (!todo.getFirstProperty("rrule")) continue;
  const expansion = new ICAL.RecurExpansion({ component: todo, dtstart: todo.getFirstPropertyValue("dtstart") });
  for (let next = expansion.next(); next && times.length < 8; next = expansion.next()) {
    times.push(next.isDate ? next.toString() : next.toJSDate().toISOString());
  }
}
process.stdout.write(JSON.stringify(found));
