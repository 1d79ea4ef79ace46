"""/v1/tasks: reads requests, asks the rules and the store, answers."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response, status
from uuid_utils.compat import uuid7

from task_api.problems import Problem, problem_responses
from task_api.store import Store
from task_api.tasks import rules
from task_api.tasks.models import NewTask, Task, TaskPage, TaskPatch

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 200

router = APIRouter(prefix="/v1/tasks", tags=["tasks"])


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


StoreDependency = Annotated[Store, Depends(_store)]


@router.post("", status_code=status.HTTP_201_CREATED, responses=problem_responses(400, 422, 503))
async def create_task(new: NewTask, store: StoreDependency, response: Response) -> Task:
    """Create a task."""
    task = rules.create(new, task_id=uuid7(), now=datetime.now(UTC))
    await store.add(task)
    response.headers["Location"] = f"{router.prefix}/{task.id}"
    return task


@router.get("", responses=problem_responses(400, 422, 503))
async def list_tasks(
    store: StoreDependency,
    page_size: Annotated[
        int, Query(ge=1, description=f"How many to return; more than {MAX_PAGE_SIZE} is lowered to {MAX_PAGE_SIZE}")
    ] = DEFAULT_PAGE_SIZE,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before")] = None,
) -> TaskPage:
    """List tasks, newest first."""
    size = min(page_size, MAX_PAGE_SIZE)
    before = None if cursor is None else _read_cursor(cursor)
    tasks = await store.page(size=size + 1, before=before)  # one more than asked for tells whether there is a next page
    more = len(tasks) > size
    return TaskPage(items=tasks[:size], next_cursor=_cursor(tasks[size - 1].id) if more else None)


@router.get("/{task_id}", responses=problem_responses(404, 422, 503))
async def get_task(task_id: UUID, store: StoreDependency) -> Task:
    """Get one task."""
    task = await store.get(task_id)
    if task is None:
        raise _not_found(task_id)
    return task


@router.patch("/{task_id}", responses=problem_responses(400, 404, 422, 503))
async def update_task(task_id: UUID, patch: TaskPatch, store: StoreDependency) -> Task:
    """Change a task: what the patch leaves out stays as it is."""
    while True:
        task = await store.get(task_id)
        if task is None:
            raise _not_found(task_id)
        changed = rules.change(task, patch, now=datetime.now(UTC))
        # False: somebody changed or removed the task in between; begin again with what is there now.
        if changed is task or await store.replace(changed):
            return changed


@router.delete("/{task_id}", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(404, 422, 503))
async def delete_task(task_id: UUID, store: StoreDependency) -> None:
    """Delete a task."""
    if not await store.remove(task_id):
        raise _not_found(task_id)


def _not_found(task_id: UUID) -> Problem:
    return Problem(404, f"There is no task {task_id}.")


def _cursor(last: UUID) -> str:
    return base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def _read_cursor(cursor: str) -> UUID:
    try:
        return UUID(bytes=base64.b64decode(cursor + "==", altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        raise Problem(400, "This cursor is not one that this list gave out. Start again without a cursor.") from None
