"""The business rules of creating and changing tasks. Pure functions, no storage, no HTTP."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from task_api.tasks.models import (
    MAX_METADATA,
    MAX_YEAR,
    UNDELETE_DAYS,
    NewTask,
    Status,
    Task,
    TaskPatch,
    construct_unchecked,
)
from task_api.tasks.recurrence import Occurrence, next_occurrence, with_count_changed
from task_api.tasks.rrule import parse


class RuleBroken(Exception):
    """The change is not allowed; the message says why, and what is allowed."""


def create(new: NewTask, *, task_id: UUID, now: datetime) -> Task:
    """A task's first version."""
    done = new.status is Status.DONE
    percent_done = new.percent_done
    if percent_done is None:
        percent_done = 100 if done else 0
    return construct_unchecked(
        {
            "id": task_id,
            "title": new.title,
            "description": new.description,
            "status": new.status,
            "priority": new.priority,
            "due_at": new.due_at,
            "due_on": new.due_on,
            "start_at": new.start_at,
            "labels": new.labels,
            "project": new.project,
            "parent": new.parent,
            "assignee": new.assignee,
            "percent_done": percent_done,
            "recurrence": new.recurrence,
            "time_zone": new.time_zone,
            "followed_by": None,
            "position": new.position,
            "metadata": new.metadata,
            "created_at": now,
            "updated_at": now,
            "completed_at": now if done else None,
            "deleted_at": None,
            "version": 1,
        }
    )


def update(task: Task, patch: TaskPatch, *, now: datetime) -> Task:
    """The task's next version, or the same object if the patch changes nothing. Raises RuleBroken."""
    now = _not_before_last_update(now, task)
    changed: dict[str, Any] = {name: getattr(patch, name) for name in patch.model_fields_set}
    cleared = {name for name, value in changed.items() if value is None}
    changed |= {name: NewTask.model_fields[name].get_default() for name in cleared}
    if "percent_done" in cleared:
        changed["percent_done"] = 100 if changed.get("status", task.status) is Status.DONE else 0
    if "metadata" in changed and "metadata" not in cleared:
        merged = {**task.metadata, **changed["metadata"]}
        changed["metadata"] = {key: value for key, value in merged.items() if value is not None}
        if len(changed["metadata"]) > MAX_METADATA:
            raise RuleBroken(f"A task has at most {MAX_METADATA} metadata keys; remove some by setting them to null.")
    if changed.get("due_at") is not None:
        changed["due_on"] = None
    if changed.get("due_on") is not None:
        changed["due_at"] = None
    if all(getattr(task, name) == value for name, value in changed.items()):
        return task
    status = changed.get("status", task.status)
    if status is not task.status:
        changed["completed_at"] = now if status is Status.DONE else None
        if status is Status.DONE:
            changed.setdefault("percent_done", 100)
    return _next_version(task, changed, now)


def advance_recurrence(updated: Task, *, before: Task, task_id: UUID, now: datetime) -> tuple[Task, Task | None]:
    """`updated` as it is stored, and its next occurrence, if its status just became `done` and it recurs.

    The rule moves to the next occurrence, so that only one task has it; `reopen` moves it back.
    """
    if updated.status is not Status.DONE or before.status is Status.DONE or updated.recurrence is None:
        return updated, None
    occurrence = next_occurrence(updated, now=now)
    done = updated.model_copy(update={"recurrence": None})
    if occurrence is None or not _is_storable(occurrence):
        return done, None
    next_task = updated.model_copy(
        update={
            "id": task_id,
            "status": Status.TO_DO,
            "percent_done": 0,
            "due_at": occurrence.due_at,
            "due_on": occurrence.due_on,
            "start_at": occurrence.start_at,
            "recurrence": occurrence.recurrence,
            "followed_by": None,
            "created_at": now,
            "updated_at": now,
            "completed_at": None,
            "version": 1,
        }
    )
    return done.model_copy(update={"followed_by": task_id}), next_task


def reopens(task: Task, patch: TaskPatch) -> bool:
    """Whether the patch reopens a done task that has a next occurrence."""
    status = patch.status if "status" in patch.model_fields_set else task.status
    return task.status is Status.DONE and status is not Status.DONE and task.followed_by is not None


def reopen(reopened: Task, patch: TaskPatch, *, next_task: Task | None, now: datetime) -> tuple[Task, Task | None]:
    """`reopened` as it is stored, and the deleted version of its next occurrence.

    next_task: the next occurrence, which is deleted and its rule restored, as if the task had never been done. If it
    was changed, done or deleted since, it stays as it is and has the rule: completing `reopened` again creates no other
    one.
    """
    if next_task is None or next_task.version != 1:
        return reopened, None
    restored: dict[str, Any] = {"followed_by": None}
    if reopened.recurrence is None and "recurrence" not in patch.model_fields_set and next_task.recurrence is not None:
        restored["recurrence"] = with_count_changed(parse(next_task.recurrence), 1)
    return reopened.model_copy(update=restored), delete(next_task, now=now)


def _is_storable(occurrence: Occurrence) -> bool:
    times = (occurrence.due_at, occurrence.due_on, occurrence.start_at)
    return all(time is None or time.year <= MAX_YEAR for time in times)


def delete(task: Task, *, now: datetime) -> Task:
    """The deleted version of the task."""
    now = _not_before_last_update(now, task)
    return _next_version(task, {"deleted_at": now}, now)


def undelete(task: Task, *, now: datetime) -> Task:
    """The restored version of the task, or the same object if it is not deleted."""
    if task.deleted_at is None:
        return task
    return _next_version(task, {"deleted_at": None}, _not_before_last_update(now, task))


def purge_cutoff(now: datetime) -> datetime:
    """Tasks deleted before this time are purged."""
    return now - timedelta(days=UNDELETE_DAYS)


def _not_before_last_update(now: datetime, task: Task) -> datetime:
    """The time of a change. Clocks of pods differ; the timestamps of a task never go backwards."""
    return max(now, task.updated_at)


def _next_version(task: Task, changed: dict[str, Any], now: datetime) -> Task:
    return task.model_copy(update={**changed, "updated_at": now, "version": task.version + 1})
