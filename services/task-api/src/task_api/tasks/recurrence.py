"""The next occurrence of a recurring task."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, tzinfo

from task_api.tasks.models import Task
from task_api.tasks.rrule import Rule, first_after, first_day_after, parse
from task_api.tasks.time_zones import zone_of


@dataclass(frozen=True)
class Occurrence:
    """The timestamps of the next occurrence, and its rule."""

    due_at: datetime | None
    due_on: date | None
    start_at: datetime | None
    recurrence: str | None


def next_occurrence(task: Task, *, now: datetime) -> Occurrence | None:
    """The next occurrence, or None if there is none, if it is too far away (rrule.MAX_STEPS) or after the year 9999.

    The rule counts from when the task is due, or else from its start, or else from `now` (aware): the next occurrence
    is the first one after that, in local time of the task's time zone (UTC by default). So a task that is done late
    skips no occurrence. `start_at` keeps its distance from the due in local time. Raises ValueError for a rule that
    `parse` rejects.
    """
    if task.recurrence is None:
        return None
    rule = parse(task.recurrence)
    if rule.count == 1:
        return None
    zone = zone_of(task.time_zone)
    try:
        if task.due_on is not None:
            return _next_date(task, rule, task.due_on, zone)
        return _next_datetime(task, rule, task.due_at or task.start_at or now.astimezone(UTC), zone)
    except OverflowError:
        return None


def _next_date(task: Task, rule: Rule, due_on: date, zone: tzinfo) -> Occurrence | None:
    day = first_day_after(rule, due_on)
    if day is None or _is_over(rule, day):
        return None
    start_at = None if task.start_at is None else _to_utc(_local(task.start_at, zone) + (day - due_on), zone)
    return Occurrence(due_at=None, due_on=day, start_at=start_at, recurrence=with_count_changed(rule, -1))


def _next_datetime(task: Task, rule: Rule, anchor: datetime, zone: tzinfo) -> Occurrence | None:
    local = _local(anchor, zone)
    following = local
    due = anchor
    # When clocks go back, the next local time may be an earlier instant.
    while due <= anchor:
        found = first_after(rule, following)
        if found is None:
            return None
        following, due = found, _to_utc(found, zone)
    last = rule.last(zone)
    if last is not None and due > last:
        return None
    start_at = None if task.start_at is None else _to_utc(_local(task.start_at, zone) + (following - local), zone)
    recurrence = with_count_changed(rule, -1)
    if rule.is_date_based and "BYHOUR" not in rule.by and _local(due, zone) != following:
        # Clocks go forward past that local time, so the task is due later on this day (RFC 5545, section 3.3.5). The
        # rule keeps the local time, or all later occurrences would shift.
        recurrence += f";BYHOUR={following.hour}" + ("" if "BYMINUTE" in rule.by else f";BYMINUTE={following.minute}")
    by_start = task.due_at is None and task.start_at is not None
    return Occurrence(due_at=None if by_start else due, due_on=None, start_at=start_at, recurrence=recurrence)


def _is_over(rule: Rule, day: date) -> bool:
    """Whether UNTIL is before a due date: the date is compared by its midnight in UTC."""
    if rule.until is None:
        return False
    if not isinstance(rule.until, datetime):
        return day > rule.until
    return datetime.combine(day, time()) > rule.until.replace(tzinfo=None)


def with_count_changed(rule: Rule, difference: int) -> str:
    """The rule's text with COUNT, if any, changed by `difference`."""
    if rule.count is None:
        return rule.text
    return re.sub(r"\bCOUNT=[0-9]+", f"COUNT={rule.count + difference}", rule.text)


def _local(time: datetime, zone: tzinfo) -> datetime:
    """Local time in the zone, without the zone."""
    return time.astimezone(zone).replace(tzinfo=None)


def _to_utc(local: datetime, zone: tzinfo) -> datetime:
    """The first instant with this local time in the zone, in UTC. A local time that is skipped when clocks go forward
    is computed with the offset before the change."""
    return local.replace(tzinfo=zone).astimezone(UTC)
