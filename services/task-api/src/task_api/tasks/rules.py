"""The rules: how a task comes to be and how it changes. Pure functions, no storage, no HTTP."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from task_api.tasks.models import NewTask, Status, Task, TaskPatch


def create(new: NewTask, *, task_id: UUID, now: datetime) -> Task:
    """A task's first version."""
    return Task(
        id=task_id,
        **new.model_dump(),
        created_at=now,
        updated_at=now,
        completed_at=now if new.status is Status.DONE else None,
        version=1,
    )


def change(task: Task, patch: TaskPatch, *, now: datetime) -> Task:
    """The task's next version, or the very same task where the patch changes nothing."""
    changed = patch.model_dump(exclude_unset=True)
    if all(getattr(task, name) == value for name, value in changed.items()):
        return task
    completed_at = task.completed_at
    if changed.get("status", task.status) is not task.status:
        completed_at = now if changed["status"] is Status.DONE else None
    return task.model_copy(
        update={
            **changed,
            "completed_at": completed_at,
            "updated_at": max(now, task.updated_at),  # clocks of two pods differ; time on a task never runs back
            "version": task.version + 1,
        }
    )
