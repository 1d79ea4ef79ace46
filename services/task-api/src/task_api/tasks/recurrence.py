"""When a task that recurs comes again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from task_api.tasks.models import Task
from task_api.tasks.rrule import Rule, days, parse


@dataclass(frozen=True)
class Occurrence:
    """The times of the task that follows, and its rule."""

    due_at: datetime | None
    due_on: date | None
    start_at: datetime | None
    recurrence: str | None


def next_occurrence(task: Task, *, now: datetime) -> Occurrence | None:
    """When the task comes again, or None where it does not, or not before the year 10000.

    The rule counts from when the task is due, else from its start, else from `now` (aware): the next occurrence is
    its first day after that one, at the same time of day in UTC. So a task that is done late skips nothing.
    `start_at` keeps its distance from the due. Raises ValueError where the task's rule does not match RULE_PATTERN.
    """
    if task.recurrence is None:
        return None
    rule = parse(task.recurrence)
    if rule.count == 1:
        return None
    # A day counts as its first moment in UTC, as in Task.due.
    anchor = task.due or task.start_at or now.astimezone(UTC)
    try:
        day = next((day for day in days(rule, anchor.date()) if day > anchor.date()), None)
        if day is None:
            return None
        due = datetime.combine(day, anchor.timetz())
        start_at = None if task.start_at is None else task.start_at + (due - anchor)
    except OverflowError:
        return None
    if rule.until is not None and due > rule.until:
        return None
    by_start = task.due is None and task.start_at is not None
    return Occurrence(
        due_at=None if by_start or task.due_on is not None else due,
        due_on=None if task.due_on is None else day,
        start_at=start_at,
        recurrence=_counted_down(task.recurrence, rule),
    )


def _counted_down(text: str, rule: Rule) -> str:
    return text if rule.count is None else text.replace(f";COUNT={rule.count}", f";COUNT={rule.count - 1}")
