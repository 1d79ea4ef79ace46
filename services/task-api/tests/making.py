"""Creates tasks without the API, for tests of the stores."""

from __future__ import annotations

from datetime import UTC, datetime

from uuid_utils.compat import uuid7

from task_api.tasks.models import Priority, Status, Task

NOW = datetime(2026, 11, 23, 12, 30, 15, 123456, tzinfo=UTC)


def a_task(**fields: object) -> Task:
    """A new task with only a title and these fields."""
    task = Task(
        id=uuid7(),
        title="Water the plants",
        description=None,
        status=Status.TO_DO,
        priority=Priority.NONE,
        due_at=None,
        due_on=None,
        start_at=None,
        labels=[],
        project=None,
        parent=None,
        assignee=None,
        percent_done=0,
        recurrence=None,
        time_zone=None,
        followed_by=None,
        position=0.0,
        metadata={},
        created_at=NOW,
        updated_at=NOW,
        completed_at=None,
        deleted_at=None,
        version=1,
    )
    return task.model_copy(update=fields)
