"""The rules of tasks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from uuid_utils.compat import uuid7

from task_api.tasks import rules
from task_api.tasks.models import NewTask, Status, Task, TaskPatch

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def created(**said: object) -> Task:
    return rules.create(NewTask.model_validate({"title": "Write the report", **said}), task_id=uuid7(), now=NOW)


def test_a_new_task_is_version_one_and_to_be_done() -> None:
    task = created()
    assert (task.version, task.status, task.created_at, task.updated_at, task.completed_at) == (
        1,
        Status.TODO,
        NOW,
        NOW,
        None,
    )


def test_a_task_created_done_is_completed_then() -> None:
    assert created(status="done").completed_at == NOW


def test_a_change_makes_the_next_version_and_keeps_the_rest() -> None:
    task = created(description="by Friday")
    changed = rules.change(task, TaskPatch(title="Write it again"), now=LATER)
    assert changed == task.model_copy(update={"title": "Write it again", "version": 2, "updated_at": LATER})


def test_null_clears_the_description() -> None:
    assert rules.change(created(description="x"), TaskPatch(description=None), now=LATER).description is None


@pytest.mark.parametrize("patch", [{}, {"title": "Write the report"}, {"status": "todo"}])
def test_a_patch_that_changes_nothing_makes_no_version(patch: dict[str, object]) -> None:
    task = created()
    assert rules.change(task, TaskPatch.model_validate(patch), now=LATER) is task


def test_completion_is_remembered_until_the_task_is_taken_up_again() -> None:
    done = rules.change(created(), TaskPatch(status=Status.DONE), now=LATER)
    renamed = rules.change(done, TaskPatch(title="Done that"), now=LATER + timedelta(hours=1))
    reopened = rules.change(renamed, TaskPatch(status=Status.IN_PROGRESS), now=LATER)
    assert [t.completed_at for t in (done, renamed, reopened)] == [LATER, LATER, None]


def test_time_never_runs_back_on_a_task() -> None:
    """Two pods' clocks differ."""
    assert rules.change(created(), TaskPatch(title="x"), now=NOW - timedelta(seconds=3)).updated_at == NOW
