"""The rules of tasks."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from pydantic import ValidationError
from uuid_utils.compat import uuid7

from task_api.tasks import rules
from task_api.tasks.models import NewTask, Status, Task, TaskPatch

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def created(**fields: object) -> Task:
    return rules.create(NewTask.model_validate({"title": "Write the report", **fields}), task_id=uuid7(), now=NOW)


def changed(task: Task, **patch: object) -> Task:
    return rules.update(task, TaskPatch.model_validate(patch), now=LATER)


def test_a_new_task_is_version_1_and_todo() -> None:
    task = created()
    assert (task.version, task.status, task.percent_done) == (1, Status.TO_DO, 0)
    assert (task.created_at, task.updated_at, task.completed_at, task.deleted_at) == (NOW, NOW, None, None)


def test_a_task_created_done_is_completed_at_creation() -> None:
    task = created(status="done")
    assert (task.completed_at, task.percent_done) == (NOW, 100)
    assert created(status="done", percent_done=90).percent_done == 90


def test_an_update_makes_the_next_version_and_keeps_other_fields() -> None:
    task = created(description="by Friday")
    assert changed(task, title="Write it again") == task.model_copy(
        update={"title": "Write it again", "version": 2, "updated_at": LATER}
    )


def test_null_clears_a_field() -> None:
    task = created(description="x", project="p", due_on="2026-12-01")
    task = changed(task, description=None, project=None, due_on=None)
    assert (task.description, task.project, task.due_on) == (None, None, None)


def test_null_resets_every_field_but_the_title_to_its_default() -> None:
    cleared = dict.fromkeys(set(TaskPatch.model_fields) - {"title"})
    fields = {"priority": "high", "labels": ["a"], "percent_done": 40, "position": 7.5, "metadata": {"a": "1"}}
    task = changed(created(**fields, status="in_progress", assignee="Ada", due_on="2026-12-01"), **cleared)
    fresh = created()
    assert task == fresh.model_copy(update={"id": task.id, "version": 2, "updated_at": LATER})
    with pytest.raises(ValidationError):
        TaskPatch.model_validate({"title": None})


@pytest.mark.parametrize(("status", "percent_done"), [("done", 100), ("in_progress", 0)])
def test_a_cleared_percent_done_follows_the_status(status: str, percent_done: int) -> None:
    assert changed(created(percent_done=40), status=status, percent_done=None).percent_done == percent_done


@pytest.mark.parametrize(
    "patch", [{}, {"title": "Write the report"}, {"status": "todo"}, {"metadata": {"a": "1", "b": None}}]
)
def test_a_patch_without_changes_makes_no_version(patch: dict[str, object]) -> None:
    task = created(metadata={"a": "1"})
    assert changed(task, **patch) is task


def test_labels_are_replaced_and_metadata_is_merged() -> None:
    task = changed(
        created(labels=["a", "b"], metadata={"a": "1", "b": "2"}), labels=["c"], metadata={"b": None, "c": "3"}
    )
    assert task.labels == ["c"]
    assert task.metadata == {"a": "1", "c": "3"}


def test_merged_metadata_is_bounded() -> None:
    task = created(metadata={f"a{n}": "" for n in range(30)})
    assert len(changed(task, metadata={f"b{n}": "" for n in range(20)}).metadata) == 50
    with pytest.raises(rules.RuleBroken, match="at most 50"):
        changed(task, metadata={f"b{n}": "" for n in range(21)})


def test_a_task_is_due_at_a_date_time_or_on_a_date() -> None:
    at = changed(created(due_on="2026-12-01"), due_at="2026-12-01T10:00:00+02:00")
    assert (at.due_at, at.due_on) == (datetime(2026, 12, 1, 8, tzinfo=UTC), None)
    on = changed(at, due_on="2026-12-02")
    assert (on.due_at, on.due_on) == (None, date(2026, 12, 2))
    with pytest.raises(ValueError, match="not both"):
        created(due_on="2026-12-01", due_at="2026-12-01T10:00:00Z")


def test_completed_at_is_kept_until_the_task_is_reopened() -> None:
    done = changed(created(), status="done")
    assert (done.completed_at, done.percent_done) == (LATER, 100)
    assert changed(done, title="Done that").completed_at == LATER
    assert changed(done, status="in_progress").completed_at is None
    assert changed(created(), status="done", percent_done=90).percent_done == 90


def test_timestamps_of_a_task_never_go_backwards() -> None:
    """Clocks of pods differ."""
    behind = NOW - timedelta(seconds=3)
    assert rules.update(created(), TaskPatch(title="x"), now=behind).updated_at == NOW
    deleted = rules.delete(created(), now=behind)
    assert (deleted.updated_at, deleted.deleted_at) == (NOW, NOW)
    assert rules.undelete(deleted, now=behind).updated_at == NOW
    done = rules.update(created(), TaskPatch(status=Status.DONE), now=behind)
    assert (done.updated_at, done.completed_at) == (NOW, NOW)


def test_a_deleted_task_can_be_undeleted() -> None:
    task = created()
    deleted = rules.delete(task, now=LATER)
    assert (deleted.deleted_at, deleted.version) == (LATER, 2)
    back = rules.undelete(deleted, now=LATER)
    assert (back.deleted_at, back.version) == (None, 3)
    assert rules.undelete(back, now=LATER) is back


def test_deleted_tasks_are_purged_after_30_days() -> None:
    assert rules.purge_cutoff(LATER) == LATER - timedelta(days=30)


def test_completing_a_recurring_task_moves_the_rule_to_the_next_occurrence() -> None:
    task = created(due_on="2026-11-23", recurrence="FREQ=WEEKLY;COUNT=3", labels=["x"], percent_done=40)
    done, following = rules.advance_recurrence(changed(task, status="done"), before=task, task_id=uuid7(), now=LATER)
    assert (done.status, done.recurrence, done.percent_done) == (Status.DONE, None, 100)
    assert following is not None
    assert (following.due_on, following.recurrence) == (date(2026, 11, 30), "FREQ=WEEKLY;COUNT=2")
    assert (following.status, following.percent_done, following.version) == (Status.TO_DO, 0, 1)
    assert (following.labels, following.completed_at, following.created_at) == (["x"], None, LATER)


def completed(task: Task, **patch: object) -> tuple[Task, Task]:
    done, following = rules.advance_recurrence(
        changed(task, status="done", **patch), before=task, task_id=uuid7(), now=LATER
    )
    assert following is not None
    return done, following


def reopened(done: Task, next_task: Task | None, **patch: object) -> tuple[Task, Task | None]:
    reopening = TaskPatch.model_validate({"status": "todo", **patch})
    assert rules.reopens(done, reopening)
    return rules.reopen(rules.update(done, reopening, now=LATER), reopening, next_task=next_task, now=LATER)


def test_a_done_task_refers_to_its_next_occurrence() -> None:
    done, following = completed(created(due_on="2026-11-23", recurrence="FREQ=WEEKLY", time_zone="Europe/Berlin"))
    assert done.followed_by == following.id
    assert following.followed_by is None
    assert (done.time_zone, following.time_zone) == ("Europe/Berlin", "Europe/Berlin")


def test_reopening_deletes_the_next_occurrence_and_restores_the_rule() -> None:
    task = created(due_on="2026-11-23", recurrence="COUNT=3;FREQ=WEEKLY")
    done, following = completed(task)
    opened, removed = reopened(done, following)
    assert (opened.status, opened.recurrence, opened.followed_by) == (Status.TO_DO, task.recurrence, None)
    assert opened.version == 3
    assert removed is not None
    assert (removed.id, removed.deleted_at, removed.version) == (following.id, LATER, 2)


def test_reopening_keeps_a_changed_next_occurrence_and_creates_no_other() -> None:
    done, following = completed(created(due_on="2026-11-23", recurrence="FREQ=WEEKLY"))
    for touched in (changed(following, title="x"), changed(following, status="done"), None):
        opened, removed = reopened(done, touched)
        assert removed is None
        assert (opened.recurrence, opened.followed_by) == (None, following.id)
        again, other = rules.advance_recurrence(
            changed(opened, status="done"), before=opened, task_id=uuid7(), now=LATER
        )
        assert (again.followed_by, other) == (following.id, None)


@pytest.mark.parametrize("rule", [None, "FREQ=DAILY"])
def test_reopening_uses_the_rule_of_the_patch(rule: str | None) -> None:
    done, following = completed(created(due_on="2026-11-23", recurrence="FREQ=WEEKLY"))
    opened, removed = reopened(done, following, recurrence=rule)
    assert opened.recurrence == rule
    assert removed is not None


@pytest.mark.parametrize("patch", [{"title": "x"}, {"status": "done"}])
def test_only_a_status_change_from_done_reopens(patch: dict[str, object]) -> None:
    done, _ = completed(created(due_on="2026-11-23", recurrence="FREQ=WEEKLY"))
    assert not rules.reopens(done, TaskPatch.model_validate(patch))
    assert not rules.reopens(changed(created(), status="done"), TaskPatch(status=Status.TO_DO))


@pytest.mark.parametrize(
    ("recurrence", "patch"),
    [("FREQ=DAILY", {"title": "x"}), ("FREQ=DAILY", {"status": "cancelled"}), (None, {"status": "done"})],
)
def test_no_other_update_creates_an_occurrence(recurrence: str | None, patch: dict[str, object]) -> None:
    task = created(recurrence=recurrence)
    after = changed(task, **patch)
    assert rules.advance_recurrence(after, before=task, task_id=uuid7(), now=LATER) == (after, None)


def test_a_rule_added_to_a_done_task_creates_no_occurrence() -> None:
    done = changed(created(due_on="2026-11-23"), status="done")
    recurring = changed(done, recurrence="FREQ=DAILY")
    assert rules.advance_recurrence(recurring, before=done, task_id=uuid7(), now=LATER) == (recurring, None)


def test_the_last_year_that_can_be_stored_has_occurrences() -> None:
    _, following = completed(created(recurrence="FREQ=YEARLY", due_on="9997-12-31"))
    assert following.due_on == date(9998, 12, 31)


@pytest.mark.parametrize(
    "fields",
    [
        {"recurrence": "FREQ=DAILY;COUNT=1", "due_on": "2026-11-23"},
        {"recurrence": "FREQ=YEARLY", "due_on": "9998-12-31"},
        {"recurrence": "FREQ=YEARLY", "due_at": "9998-12-31T23:59:59.999999Z"},
    ],
)
def test_the_last_occurrence_has_no_next(fields: dict[str, object]) -> None:
    task = created(**fields)
    done, following = rules.advance_recurrence(changed(task, status="done"), before=task, task_id=uuid7(), now=LATER)
    assert (done.recurrence, following) == (None, None)
