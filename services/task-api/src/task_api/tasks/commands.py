"""The operations on tasks: read, apply the rules, commit; retried on a version conflict.

They know HTTP statuses, since the items of a batch and idempotency records have one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from pydantic_core import from_json
from uuid_utils.compat import uuid7

from task_api.store import IdempotencyRecord, Store, StoreBusy, VersionConflict, Write
from task_api.tasks import rules
from task_api.tasks.calendar import time_zone_of, to_ics, to_vtimezone, to_vtodo
from task_api.tasks.models import (
    UNDELETE_DAYS,
    Batch,
    BatchAnswer,
    BatchResult,
    CreateItem,
    DeleteItem,
    NewTask,
    Task,
    TaskPatch,
    UpdateItem,
    etag,
)
from task_api.tasks.query import Query, next_page

CONFLICT_RETRY_SECONDS = 5.0
MAX_CALENDAR_TASKS = 5000
MAX_CALENDAR_MIB = 4
CALENDAR_CHUNK = 50
"""Tasks serialized at a time. All 5,000 at once would block the event loop for more than a second."""


class TaskNotFound(Exception):
    """The task does not exist or is deleted; the message says which."""


class PreconditionFailed(Exception):
    """The task is not at the version that the client expects, or at one that it excludes."""

    def __init__(
        self, task: Task, advice: str = "Fetch it again, merge your changes and retry with that version."
    ) -> None:
        super().__init__(f"Task {task.id} is at version {task.version}, ETag {etag(task.version)}. {advice}")


class ExportTooLarge(Exception):
    """The calendar would have too many tasks or bytes; the message names the limit."""


class IdempotencyKeyReused(Exception):
    """The Idempotency-Key was used for another request before."""


STATUS_CODES: dict[type[Exception], int] = {TaskNotFound: 404, PreconditionFailed: 412, rules.RuleBroken: 422}
"""The HTTP status of each error, as a response and as an item of a batch."""


@dataclass(frozen=True)
class RequestKey:
    """A request's Idempotency-Key. fingerprint: of the request's content, to distinguish a retry from another
    request."""

    subject: str
    key: str
    fingerprint: str


@dataclass(frozen=True)
class WriteResult:
    """A status and a JSON body. replayed: whether they are those of an earlier request under the same key."""

    status: int
    body: str
    replayed: bool


class _RetryBudget:
    """Limits the time spent on retries after version conflicts: the client may time out, and the server may stop."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + CONFLICT_RETRY_SECONDS

    def start_attempt(self) -> datetime:
        """The current time, as that of the attempt. Raises StoreBusy when the budget is spent."""
        if time.monotonic() > self._deadline:
            raise StoreBusy("too many concurrent updates to the same tasks")
        return datetime.now(UTC)


Precondition = Callable[[Task], None]
"""Raises PreconditionFailed if the task is not as the client expects it."""


def no_precondition(_task: Task) -> None:
    """For requests without If-Match and If-None-Match."""


async def create(store: Store, new: NewTask, key: RequestKey | None) -> tuple[WriteResult, str, int]:
    """Creates a task. Returns the result, and the task's id and version; under a key it may be that of an earlier
    request.

    Raises IdempotencyKeyReused and store.IdempotencyKeyInUse.
    """
    now = datetime.now(UTC)
    write = Write(rules.create(new, task_id=uuid7(), now=now), "created")
    result = await _commit(store, [write], 201, write.json, key, now)
    if result.replayed:
        task = from_json(result.body)
        return result, task["id"], task["version"]
    return result, str(write.task.id), write.task.version


async def get(store: Store, task_id: UUID) -> Task:
    """The task. Raises TaskNotFound."""
    return _require_not_deleted(task_id, await store.get(task_id))


async def export(store: Store, query: Query) -> bytes:
    """The tasks of a list as a calendar. Raises ExportTooLarge."""
    todos: list[bytes] = []
    time_zones: dict[str, bytes] = {}
    size = 0
    while True:
        tasks = await store.page(query, size=CALENDAR_CHUNK)
        for task in tasks:
            todos.append(to_vtodo(task))
            size += len(todos[-1])
            name = time_zone_of(task)
            if name is not None and name not in time_zones:
                time_zones[name] = await asyncio.to_thread(to_vtimezone, name)
                size += len(time_zones[name])
        if len(todos) > MAX_CALENDAR_TASKS:
            raise ExportTooLarge(f"The list has more than {MAX_CALENDAR_TASKS} tasks.")
        if size > MAX_CALENDAR_MIB * 1024 * 1024:
            raise ExportTooLarge(f"The calendar would be larger than {MAX_CALENDAR_MIB} MiB.")
        if len(tasks) < CALENDAR_CHUNK:
            return to_ics(todos, time_zones.values())
        query = next_page(query, tasks[-1])
        await asyncio.sleep(0)  # yields to other requests, also with the memory store


async def update(
    store: Store, task_id: UUID, patch: TaskPatch, check_precondition: Precondition, key: RequestKey | None = None
) -> tuple[WriteResult, int]:
    """Updates the task. Returns the result and the task's version.

    Raises TaskNotFound, PreconditionFailed and rules.RuleBroken; under a key also IdempotencyKeyReused and
    store.IdempotencyKeyInUse.
    """

    async def decide(task: Task | None, now: datetime) -> tuple[Task, list[Write]]:
        current = _require_not_deleted(task_id, task)
        check_precondition(current)
        next_task = None
        if current.followed_by and rules.reopens(current, patch):
            next_task = await store.get(current.followed_by)
        writes = _update_writes(current, patch, next_task, now)
        return writes[0].task if writes else current, writes

    return await _decide_and_commit(store, task_id, decide, 200, key)


async def delete(
    store: Store, task_id: UUID, check_precondition: Precondition, key: RequestKey | None = None
) -> WriteResult:
    """Soft-deletes the task. Raises what `update` raises, but for rules.RuleBroken."""

    async def decide(task: Task | None, now: datetime) -> tuple[Task, list[Write]]:
        current = _require_not_deleted(task_id, task)
        check_precondition(current)
        deleted = rules.delete(current, now=now)
        return deleted, [Write(deleted, "deleted")]

    result, _ = await _decide_and_commit(store, task_id, decide, 204, key)
    return result


async def undelete(
    store: Store, task_id: UUID, check_precondition: Precondition, key: RequestKey | None = None
) -> tuple[WriteResult, int]:
    """Restores a deleted task; no effect on a task that is not deleted. Returns what `update` does, and raises what
    `delete` does."""

    async def decide(task: Task | None, now: datetime) -> tuple[Task, list[Write]]:
        if task is None:
            raise TaskNotFound(f"There is no task {task_id}. Deleted tasks are purged after {UNDELETE_DAYS} days.")
        check_precondition(task)
        restored = rules.undelete(task, now=now)
        return restored, [] if restored is task else [Write(restored, "undeleted")]

    return await _decide_and_commit(store, task_id, decide, 200, key)


async def _decide_and_commit(
    store: Store,
    task_id: UUID,
    decide: Callable[[Task | None, datetime], Awaitable[tuple[Task, list[Write]]]],
    status: int,
    key: RequestKey | None,
) -> tuple[WriteResult, int]:
    """Commits what `decide` returns, retried on a version conflict. The result has the task as its body, which a 204
    omits."""
    budget = _RetryBudget()
    while True:
        now = budget.start_attempt()
        try:
            task, writes = await decide(await store.get(task_id), now)
        except tuple(STATUS_CODES):
            # A retry finds the task as its first request left it: the response to that one is the right one.
            if key is None or (record := await store.get_record(key.subject, key.key, now=now)) is None:
                raise
            result = _replay(record, key)
        else:
            body = writes[0].json if writes else task.model_dump_json()
            try:
                result = await _commit(store, writes, status, body, key, now)
            except VersionConflict:
                continue
        return result, from_json(result.body)["version"] if result.replayed else task.version


async def batch(store: Store, request: Batch, key: RequestKey | None) -> WriteResult:
    """All items in one transaction: those that succeed, or with `atomic` all or none.

    Raises IdempotencyKeyReused and store.IdempotencyKeyInUse.
    """
    budget = _RetryBudget()
    while True:
        now = budget.start_attempt()
        results, writes = await _decide_batch(store, request, now)
        body = BatchAnswer(results=results).model_dump_json()
        try:
            return await _commit(store, writes, 207, body, key, now)
        except VersionConflict:
            continue  # a concurrent request changed one of the tasks: read them again


async def _decide_batch(store: Store, request: Batch, now: datetime) -> tuple[list[BatchResult], list[Write]]:
    """The result of each item, and the writes. Items see the effects of items before them."""
    known = await store.get_many([item.id for item in request.items if not isinstance(item, CreateItem)])
    updates = [
        (known[item.id], item.patch) for item in request.items if isinstance(item, UpdateItem) and item.id in known
    ]
    next_ids = [task.followed_by for task, patch in updates if task.followed_by and rules.reopens(task, patch)]
    if next_ids:
        known = await store.get_many(next_ids) | known
    results: list[BatchResult] = []
    writes: list[Write] = []
    for item in request.items:
        try:
            status, task, item_writes = _decide_item(item, known, now)
        except tuple(STATUS_CODES) as error:
            results.append(BatchResult(status=STATUS_CODES[type(error)], detail=str(error)))
        else:
            known.update({write.task.id: write.task for write in item_writes})
            writes += item_writes
            results.append(BatchResult(status=status, task=task))
            if isinstance(item, UpdateItem):
                await asyncio.sleep(0)  # yields to other requests: finding a next occurrence may take 0.1 s
    if request.atomic and any(result.detail is not None for result in results):
        not_done = BatchResult(status=424, detail="Not done: another item of this atomic batch failed.")
        return [not_done if result.detail is None else result for result in results], []
    return results, writes


def _decide_item(
    item: CreateItem | UpdateItem | DeleteItem, known: dict[UUID, Task], now: datetime
) -> tuple[int, Task | None, list[Write]]:
    """The status, the resulting task and the writes of an item."""
    if isinstance(item, CreateItem):
        task = rules.create(item.task, task_id=uuid7(), now=now)
        return 201, task, [Write(task, "created")]
    before = _require_not_deleted(item.id, known.get(item.id))
    if item.if_version is not None and before.version != item.if_version:
        raise PreconditionFailed(before)
    if isinstance(item, DeleteItem):
        return 204, None, [Write(rules.delete(before, now=now), "deleted")]
    next_task = known.get(before.followed_by) if before.followed_by else None
    writes = _update_writes(before, item.patch, next_task, now)
    return 200, writes[0].task if writes else before, writes


def _update_writes(task: Task, patch: TaskPatch, next_task: Task | None, now: datetime) -> list[Write]:
    """The writes of a patch: none, or the task's next version, followed by its next occurrence if that is created, or
    deleted because the task is reopened. next_task: the existing next occurrence."""
    updated = rules.update(task, patch, now=now)
    if updated is task:
        return []
    if rules.reopens(task, patch):
        reopened, deleted = rules.reopen(updated, patch, next_task=next_task, now=now)
        return [Write(reopened, "updated")] + ([] if deleted is None else [Write(deleted, "deleted")])
    updated, created = rules.advance_recurrence(updated, before=task, task_id=uuid7(), now=now)
    return [Write(updated, "updated")] + ([] if created is None else [Write(created, "created")])


def _require_not_deleted(task_id: UUID, task: Task | None) -> Task:
    if task is None:
        raise TaskNotFound(f"There is no task {task_id}.")
    if task.deleted_at is not None:
        raise TaskNotFound(f"Task {task_id} is deleted. To restore it: POST to its URL, followed by :undelete")
    return task


async def _commit(
    store: Store, writes: Sequence[Write], status: int, body: str, key: RequestKey | None, now: datetime
) -> WriteResult:
    """Commits the writes with the idempotency record, or returns the result of an earlier request under the key."""
    if key is None:
        if writes:
            await store.commit(writes, now=now)
        return WriteResult(status, body, replayed=False)
    record = IdempotencyRecord(key.subject, key.key, key.fingerprint, status, body)
    existing = await store.commit(writes, record, now=now)
    return WriteResult(status, body, replayed=False) if existing is None else _replay(existing, key)


def _replay(record: IdempotencyRecord, key: RequestKey) -> WriteResult:
    """The recorded result. Raises IdempotencyKeyReused."""
    if record.fingerprint != key.fingerprint:
        raise IdempotencyKeyReused
    return WriteResult(record.status, record.body, replayed=True)
