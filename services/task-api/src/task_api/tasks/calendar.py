"""Export of tasks to calendar clients: iCalendar (RFC 5545)."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, tzinfo

from icalendar import Calendar, Timezone, Todo
from icalendar.prop import vDate, vDatetime, vDDDLists, vRecur, vUnknown

from task_api.tasks.models import Priority, Status, Task
from task_api.tasks.rrule import TIME_OF_DAY_PARTS, Rule, parse
from task_api.tasks.time_zones import zone_of

PRODUCT = "-//task-api//Task Management API//EN"

_STATUS = {
    Status.TO_DO: "NEEDS-ACTION",
    Status.IN_PROGRESS: "IN-PROCESS",
    Status.DONE: "COMPLETED",
    Status.CANCELLED: "CANCELLED",
}

# RFC 5545, section 3.8.1.9: 1 is the highest; 1 to 4 are shown as high, 5 as medium, 6 to 9 as low; 0 is undefined.
_PRIORITY = {Priority.LOW: 9, Priority.MEDIUM: 5, Priority.HIGH: 3, Priority.URGENT: 1}

_END = b"END:VCALENDAR\r\n"

_NOT_IN_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f]")


def to_ics(todos: Iterable[bytes], time_zones: Iterable[bytes] = ()) -> bytes:
    """A VCALENDAR with the output of `to_vtimezone`, then that of `to_vtodo` in the given order, in UTF-8 with CRLF.

    An empty list makes a calendar without components: RFC 5545 requires at least one, clients do not.

        to_ics([to_vtodo(task)])  # b"BEGIN:VCALENDAR\\r\\nVERSION:2.0\\r\\n..."
    """
    calendar = Calendar()
    calendar.add("version", "2.0")
    calendar.add("prodid", PRODUCT)
    empty: bytes = calendar.to_ical()
    return empty.removesuffix(_END) + b"".join(time_zones) + b"".join(todos) + _END


@functools.cache
def to_vtimezone(name: str) -> bytes:
    """A VTIMEZONE from 1970 to 2038; generating it takes 20 to 50 ms the first time.

    RFC 5545 requires one for each TZID (section 3.8.3.1); most clients use the name and their own, better data.
    """
    zone = Timezone.from_tzid(name)
    for part in zone.subcomponents:
        if "RDATE" in part:
            # One per line: of several in a line ical.js 2.2.1 reads only the first.
            dates = part.pop("RDATE").dts
            for date_ in dates:
                part.add("rdate", vDDDLists([date_.dt]))
    written: bytes = zone.to_ical()
    return written


def time_zone_of(task: Task) -> str | None:
    """The time zone that the task's VTODO names: a recurring task is written in the local time of its rule."""
    return None if task.recurrence is None or task.due_on is not None or task.time_zone == "UTC" else task.time_zone


def to_vtodo(task: Task) -> bytes:
    """A VTODO; generating it takes about 0.25 ms.

    The same task makes the same bytes. Omitted are `position` and `metadata`, which have no iCalendar property, and
    `deleted_at`: the caller decides whether to include deleted tasks. Fractions of a second, which iCalendar does not
    support, are truncated.
    """
    todo = Todo()
    todo.add("uid", str(task.id))
    # Without a METHOD, DTSTAMP is the time of the last revision (RFC 5545, section 3.8.7.2).
    todo.add("dtstamp", _to_vdatetime(task.updated_at))
    todo.add("created", _to_vdatetime(task.created_at))
    todo.add("last-modified", _to_vdatetime(task.updated_at))
    todo.add("sequence", task.version - 1)
    todo.add("summary", _text(task.title))
    if task.description is not None:
        todo.add("description", _text(task.description))
    todo.add("status", _STATUS[task.status])
    if task.priority is not Priority.NONE:
        todo.add("priority", _PRIORITY[task.priority])
    todo.add("percent-complete", task.percent_done)
    if task.completed_at is not None:
        todo.add("completed", _to_vdatetime(task.completed_at))
    if task.labels:
        todo.add("categories", _text(*task.labels))
    if task.parent is not None:
        todo.add("related-to", str(task.parent))
    if task.project is not None:
        todo.add("x-task-project", _text(task.project), {"VALUE": "TEXT"})
    if task.assignee is not None:
        # Not ATTENDEE: its value is a calendar user's address, and this may be any name.
        todo.add("x-task-assignee", _text(task.assignee), {"VALUE": "TEXT"})
    _add_times(todo, task)
    written: bytes = todo.to_ical()
    return written


def _add_times(todo: Todo, task: Task) -> None:
    """Adds DTSTART, DUE and RRULE, which RFC 5545 constrains.

    DTSTART and DUE are both DATE or both DATE-TIME, and DUE is the later one (section 3.8.2.3). An RRULE needs a
    DTSTART, which is the first of its occurrences (sections 3.8.2.4 and 3.8.5.3); a task's rule counts from its due.
    What does not fit into that is written as an X- property, so that no client shows something wrong.
    """
    zone = zone_of(time_zone_of(task))
    due = task.due_on if task.due_on is not None else None if task.due_at is None else _in_zone(task.due_at, zone)
    start = None if task.start_at is None else _in_zone(task.start_at, zone)
    if task.recurrence is not None:
        rule = parse(task.recurrence)
        first = due if due is not None else start
        if first is not None and not _is_over(rule, first) and (isinstance(first, datetime) or rule.is_date_based):
            if isinstance(due, datetime) and start is not None and start < due and _same_occurrences(rule, start, due):
                todo.add("dtstart", start)
                todo.add("due", due)
                todo.add("rrule", _rrule(rule, start, earlier=due - start))
            else:
                # DTSTART has to be the due, since the rule counts from there. DUE would have to be later: omitted.
                todo.add("rrule", _rrule(rule, first))
                todo.add("dtstart", first)
                if due is not None:
                    _add_x_property(todo, "x-task-due", due)
                    if start is not None:
                        _add_x_property(todo, "x-task-start", start)
            return
        # Without due and start the rule counts from completion, so there is no DTSTART yet. For a rule that ended
        # before its DTSTART, clients show no occurrence at all, not even this one. And a DATE has no hours.
        todo.add("x-task-recurrence", _text(task.recurrence), {"VALUE": "TEXT"})
    if due is not None:
        todo.add("due", due)
    if start is not None:
        if due is None or (isinstance(due, datetime) and start < due):
            todo.add("dtstart", start)
        else:
            # Of another type than DUE, or not before it: clients drop such a DTSTART, or the entire task.
            _add_x_property(todo, "x-task-start", start)


def _is_over(rule: Rule, first: date) -> bool:
    """Whether the rule ended before the task's own occurrence."""
    if isinstance(first, datetime):
        last = rule.last(first.tzinfo or UTC)
        return last is not None and last < first
    last = rule.last(UTC)
    return last is not None and last.date() < first


def _same_occurrences(rule: Rule, start: datetime, due: datetime) -> bool:
    """Whether the rule gives the same occurrences counted from the start as counted from the due.

    A rule that counts days or hours does; months differ in length. A rule that names days does if both are on the same
    day, unless it also names times of day.
    """
    if not rule.by:
        return rule.freq not in {"MONTHLY", "YEARLY"} or start.date() == due.date()
    return rule.is_date_based and start.date() == due.date() and not rule.by.keys() & set(TIME_OF_DAY_PARTS)


def _rrule(rule: Rule, first: date, *, earlier: timedelta = timedelta()) -> vRecur:
    """The rule counted from `first`, which is `earlier` than the original start of the rule."""
    rrule: vRecur = vRecur.from_ical(rule.text)
    # UNTIL has the type of DTSTART, and a DATE-TIME is in UTC (section 3.3.10). A date counts as its midnight in UTC,
    # so dates up to the date of UNTIL are those before that instant; and it has no hours.
    if isinstance(first, datetime):
        if (last := rule.last(first.tzinfo or UTC)) is not None:
            rrule["UNTIL"] = [(_whole_seconds(last).astimezone(first.tzinfo) - earlier).astimezone(UTC)]
    else:
        for name in TIME_OF_DAY_PARTS:
            rrule.pop(name, None)
        if (last := rule.last(UTC)) is not None:
            rrule["UNTIL"] = [last.date()]
    return rrule


def _in_zone(time: datetime, zone: tzinfo) -> datetime:
    return _whole_seconds(time).astimezone(zone)


def _add_x_property(todo: Todo, name: str, value: date) -> None:
    # With VALUE: an X- property without it is read as text.
    if isinstance(value, datetime):
        todo.add(name, vDatetime(value.astimezone(UTC)), {"VALUE": "DATE-TIME"})
    else:
        todo.add(name, vDate(value), {"VALUE": "DATE"})


def _text(*texts: str) -> vUnknown:
    r"""One or more values of type TEXT (RFC 5545, section 3.3.11), escaped.

    Not by the library's vText: it reads a backslash before an N as a newline, which breaks `C:\New`. vUnknown is
    written unchanged, so no newline may be left in it; other control characters are not allowed in any text.
    """
    return vUnknown(",".join(_escaped(text) for text in texts))


def _escaped(text: str) -> str:
    text = _NOT_IN_TEXT.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return text.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,").replace("\n", "\\n")


def _to_vdatetime(time: datetime) -> vDatetime:
    return vDatetime(_whole_seconds(time))


def _whole_seconds(time: datetime) -> datetime:
    """Truncated before comparisons, too: a DUE half a second after DTSTART would be written as the same DATE-TIME."""
    return time.replace(microsecond=0)
