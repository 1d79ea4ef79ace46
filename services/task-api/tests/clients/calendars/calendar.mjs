// Reads a calendar, and writes the first occurrences of the rule of each VTODO, in UTC, according to its VTIMEZONE:
// {uid: [...]}; [] without a rule.
import { readFileSync } from "node:fs";
import ICAL from "ical.js";

const calendar = new ICAL.Component(ICAL.parse(readFileSync(0, "utf-8")));
for (const zone of calendar.getAllSubcomponents("vtimezone")) ICAL.TimezoneService.register(zone);
const occurrences = {};
for (const todo of calendar.getAllSubcomponents("vtodo")) {
  const times = (occurrences[todo.getFirstPropertyValue("uid")] = []);
  if (!todo.getFirstProperty("rrule")) continue;
  const expansion = new ICAL.RecurExpansion({ component: todo, dtstart: todo.getFirstPropertyValue("dtstart") });
  for (let next = expansion.next(); next && times.length < 8; next = expansion.next()) {
    times.push(next.isDate ? next.toString() : next.toJSDate().toISOString());
  }
}
process.stdout.write(JSON.stringify(occurrences));
