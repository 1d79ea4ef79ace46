"""When a task that recurs comes again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, tzinfo

from task_api.tasks.models import Task
from task_api.tasks.rrule import Rule, first_after, first_day_after, parse
from task_api.tasks.time_zones import zone_of


@dataclass(frozen=True)
class Occurrence:
    """The times of the task that follows, and its rule."""

    due_at: datetime | None
    due_on: date | None
    start_at: datetime | None
    recurrence: str | None


def next_occurrence(task: Task, *, now: datetime) -> Occurrence | None:
    """When the task comes again, or None where it does not, or too seldom (rrule.MAX_STEPS), or after the year 9999.

    The rule counts from when the task is due, else from its start, else from `now` (aware): the next occurrence is
    the first one after that, by the clock of the task's time zone or else of UTC. So a task that is done late skips
    nothing. `start_at` keeps its distance from the due by that clock. Raises ValueError for what `parse` refuses.
    """
    if task.recurrence is None:
        return None
    rule = parse(task.recurrence)
    if rule.count == 1:
        return None
    zone = zone_of(task.time_zone)
    try:
        if task.due_on is not None:
            return _next_day(task, rule, task.due_on, zone)
        return _next_moment(task, rule, task.due_at or task.start_at or now.astimezone(UTC), zone)
    except OverflowError:
        return None


def _next_day(task: Task, rule: Rule, due_on: date, zone: tzinfo) -> Occurrence | None:
    day = first_day_after(rule, due_on)
    if day is None or _is_over(rule, day):
        return None
    start_at = None if task.start_at is None else _moment(_clock(task.start_at, zone) + (day - due_on), zone)
    return Occurrence(due_at=None, due_on=day, start_at=start_at, recurrence=counted_on(rule, -1))


def _next_moment(task: Task, rule: Rule, anchor: datetime, zone: tzinfo) -> Occurrence | None:
    clock = _clock(anchor, zone)
    following = clock
    due = anchor
    # Where clocks are put back, the next time on the clock may be an earlier moment.
    while due <= anchor:
        found = first_after(rule, following)
        if found is None:
            return None
        following, due = found, _moment(found, zone)
    last = rule.last(zone)
    if last is not None and due > last:
        return None
    start_at = None if task.start_at is None else _moment(_clock(task.start_at, zone) + (following - clock), zone)
    recurrence = counted_on(rule, -1)
    if rule.of_days and "BYHOUR" not in rule.by and _clock(due, zone) != following:
        # Clocks are put forward past that time, so the task comes later on this day (RFC 5545, section 3.3.5). The
        # rule keeps the time, or all that follow would come later.
        recurrence += f";BYHOUR={following.hour}" + ("" if "BYMINUTE" in rule.by else f";BYMINUTE={following.minute}")
    by_start = task.due_at is None and task.start_at is not None
    return Occurrence(due_at=None if by_start else due, due_on=None, start_at=start_at, recurrence=recurrence)


def _is_over(rule: Rule, day: date) -> bool:
    """Of a task that is due on a day, whatever the time zone: the day is compared, by its first moment in UTC."""
    if rule.until is None:
        return False
    if not isinstance(rule.until, datetime):
        return day > rule.until
    return datetime.combine(day, time()) > rule.until.replace(tzinfo=None)


def counted_on(rule: Rule, difference: int) -> str:
    """The rule's text with its COUNT changed by so many, where it has one."""
    if rule.count is None:
        return rule.text
    return re.sub(r"\bCOUNT=[0-9]+", f"COUNT={rule.count + difference}", rule.text)


def _clock(moment: datetime, zone: tzinfo) -> datetime:
    """What a clock in the zone shows, without the zone."""
    return moment.astimezone(zone).replace(tzinfo=None)


def _moment(clock: datetime, zone: tzinfo) -> datetime:
    """The first moment at which a clock in the zone shows this, in UTC. What is skipped, where clocks are put forward,
    is counted on from before."""
    return clock.replace(tzinfo=zone).astimezone(UTC)
