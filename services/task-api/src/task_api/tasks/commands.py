"""What may be done with tasks: read what is kept, decide by the rules, commit; again where somebody was faster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from pydantic_core import from_json
from uuid_utils.compat import uuid7

from task_api.store import Answer, Store, StoreBusy, VersionConflict, Write
from task_api.tasks import rules
from task_api.tasks.calendar import time_zone_of, to_ics, to_vtimezone, to_vtodo
from task_api.tasks.models import (
    Batch,
    BatchAnswer,
    BatchResult,
    CreateItem,
    DeleteItem,
    NewTask,
    Task,
    TaskPatch,
    UpdateItem,
)
from task_api.tasks.query import Query, rest

OVERTAKEN_SECONDS = 5.0
MAX_CALENDAR = 5000
MAX_CALENDAR_BYTES = 4 * 1024 * 1024
CALENDAR_CHUNK = 50
"""Written at a time. All 5,000 at once would keep every other request waiting for more than a second."""


class NoSuchTask(Exception):
    """There is no such task, or it is deleted; the message says which."""


class OtherVersion(Exception):
    """The task is not at the version that the client knows; the message names both."""


class TooMuch(Exception):
    """These are more tasks than a calendar may have, or it would be too large; the message says how much it may."""


class KeyReused(Exception):
    """The Idempotency-Key was used for another request before."""


@dataclass(frozen=True)
class RequestKey:
    """A request's Idempotency-Key. fingerprint: of what is asked for, so that another request is told from a retry."""

    subject: str
    key: str
    fingerprint: str


@dataclass(frozen=True)
class Answered:
    """A status and a JSON body, and whether they are a repetition of an earlier answer under the same key."""

    status: int
    body: str
    replayed: bool


class _Attempts:
    """Who is overtaken tries again, though not for ever: the client may wait no longer, and the server may end."""

    def __init__(self) -> None:
        self._until = time.monotonic() + OVERTAKEN_SECONDS

    def next(self) -> datetime:
        """The time of the next one. Raises StoreBusy where others were faster for too long."""
        if time.monotonic() > self._until:
            raise StoreBusy("others change the same tasks all the time")
        return datetime.now(UTC)


Expectation = Callable[[Task], None]
"""Raises OtherVersion where the task is not as the client expects it."""


def anything(_task: Task) -> None:
    """The client expects nothing."""


async def create(store: Store, new: NewTask, key: RequestKey | None) -> tuple[Answered, str, int]:
    """A new task: the answer, and its id and version. Under a key it may be the task of an earlier request.

    Raises KeyReused and store.KeyInUse.
    """
    now = datetime.now(UTC)
    write = Write(rules.create(new, task_id=uuid7(), now=now), "created")
    answered = await _commit(store, [write], 201, write.json, key, now)
    if answered.replayed:
        task = from_json(answered.body)
        return answered, task["id"], task["version"]
    return answered, str(write.task.id), write.task.version


async def get(store: Store, task_id: UUID) -> Task:
    """The task. Raises NoSuchTask."""
    return _living(task_id, await store.get(task_id))


async def export(store: Store, query: Query) -> bytes:
    """The tasks of a list as a calendar. Raises TooMuch."""
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
        if len(todos) > MAX_CALENDAR:
            raise TooMuch(f"These are more than {MAX_CALENDAR} tasks.")
        if size > MAX_CALENDAR_BYTES:
            raise TooMuch(f"These tasks make a calendar of more than {MAX_CALENDAR_BYTES // 1024 // 1024} MiB.")
        if len(tasks) < CALENDAR_CHUNK:
            return to_ics(todos, time_zones.values())
        query = rest(query, tasks[-1])
        await asyncio.sleep(0)  # others have their turn, on a storage in memory, too


async def change(
    store: Store, task_id: UUID, patch: TaskPatch, expect: Expectation, key: RequestKey | None = None
) -> tuple[Answered, int]:
    """The changed task: the answer, and its version.

    Raises NoSuchTask, OtherVersion, rules.RuleBroken, and under a key KeyReused and store.KeyInUse.
    """

    async def decide(task: Task | None, now: datetime) -> tuple[Task, list[Write]]:
        living = _living(task_id, task)
        expect(living)
        follower = await store.get(living.followed_by) if living.followed_by and rules.reopens(living, patch) else None
        writes = _changed(living, patch, follower, now)
        return writes[0].task if writes else living, writes

    return await _update(store, task_id, decide, 200, key)


async def delete(store: Store, task_id: UUID, expect: Expectation, key: RequestKey | None = None) -> Answered:
    """Deletes the task so that it can be undeleted. Raises what `change` raises."""

    async def decide(task: Task | None, now: datetime) -> tuple[Task, list[Write]]:
        living = _living(task_id, task)
        expect(living)
        deleted = rules.delete(living, now=now)
        return deleted, [Write(deleted, "deleted")]

    answered, _ = await _update(store, task_id, decide, 204, key)
    return answered


async def undelete(
    store: Store, task_id: UUID, expect: Expectation = anything, key: RequestKey | None = None
) -> tuple[Answered, int]:
    """Takes a deletion back; a task that is not deleted stays as it is. Returns and raises what `change` does."""

    async def decide(task: Task | None, now: datetime) -> tuple[Task, list[Write]]:
        if task is None:
            raise NoSuchTask(f"There is no task {task_id}, or no more: deleted tasks are kept for 30 days.")
        expect(task)
        back = rules.undelete(task, now=now)
        return back, [] if back is task else [Write(back, "undeleted")]

    return await _update(store, task_id, decide, 200, key)


async def _update(
    store: Store,
    task_id: UUID,
    decide: Callable[[Task | None, datetime], Awaitable[tuple[Task, list[Write]]]],
    status: int,
    key: RequestKey | None,
) -> tuple[Answered, int]:
    """Commits what `decide` makes of the task, again where somebody was faster. The task is the answer's body."""
    attempts = _Attempts()
    while True:
        now = attempts.next()
        try:
            task, writes = await decide(await store.get(task_id), now)
        except (NoSuchTask, OtherVersion, rules.RuleBroken):
            # A retry does not find the task as its first request found it: that one's answer is the right one.
            if key is None or (kept := await store.answer(key.subject, key.key, now=now)) is None:
                raise
            answered = _replayed(kept, key)
        else:
            body = writes[0].json if writes else task.model_dump_json()
            try:
                answered = await _commit(store, writes, status, body, key, now)
            except VersionConflict:
                continue
        return answered, from_json(answered.body)["version"] if answered.replayed else task.version


async def batch(store: Store, asked: Batch, key: RequestKey | None) -> Answered:
    """All items in one transaction: those that can be done, or with `atomic` all or none.

    Raises KeyReused and store.KeyInUse.
    """
    attempts = _Attempts()
    while True:
        now = attempts.next()
        results, writes = await _batch(store, asked, now)
        body = BatchAnswer(results=results).model_dump_json()
        try:
            return await _commit(store, writes, 207, body, key, now)
        except VersionConflict:
            continue  # somebody changed one of the tasks in between: look again


async def _batch(store: Store, asked: Batch, now: datetime) -> tuple[list[BatchResult], list[Write]]:
    """What becomes of each item, and the writes that do it. Items see what items before them did."""
    known = await store.get_many([item.id for item in asked.items if not isinstance(item, CreateItem)])
    updates = [
        (known[item.id], item.patch) for item in asked.items if isinstance(item, UpdateItem) and item.id in known
    ]
    followers = [task.followed_by for task, patch in updates if task.followed_by and rules.reopens(task, patch)]
    if followers:
        known = await store.get_many(followers) | known
    results: list[BatchResult] = []
    writes: list[Write] = []
    for item in asked.items:
        try:
            status, task, done = _item(item, known, now)
        except (NoSuchTask, OtherVersion, rules.RuleBroken) as error:
            code = {NoSuchTask: 404, OtherVersion: 412, rules.RuleBroken: 422}[type(error)]
            results.append(BatchResult(status=code, detail=str(error)))
        else:
            known.update({write.task.id: write.task for write in done})
            writes += done
            results.append(BatchResult(status=status, task=task))
            if isinstance(item, UpdateItem):
                await asyncio.sleep(0)  # others have their turn: a next occurrence may take a tenth of a second to find
    if asked.atomic and any(result.status >= 400 for result in results):
        undone = BatchResult(
            status=424, detail="Not done, since another item cannot be done and all or none were asked for."
        )
        return [result if result.status >= 400 else undone for result in results], []
    return results, writes


def _item(
    item: CreateItem | UpdateItem | DeleteItem, known: dict[UUID, Task], now: datetime
) -> tuple[int, Task | None, list[Write]]:
    """The status, the task that it leads to, and the writes that lead there."""
    if isinstance(item, CreateItem):
        task = rules.create(item.task, task_id=uuid7(), now=now)
        return 201, task, [Write(task, "created")]
    before = _living(item.id, known.get(item.id))
    if item.if_version is not None and before.version != item.if_version:
        raise OtherVersion(f"Task {before.id} is at version {before.version}, not {item.if_version}.")
    if isinstance(item, DeleteItem):
        return 204, None, [Write(rules.delete(before, now=now), "deleted")]
    follower = known.get(before.followed_by) if before.followed_by and rules.reopens(before, item.patch) else None
    writes = _changed(before, item.patch, follower, now)
    return 200, writes[0].task if writes else before, writes


def _changed(task: Task, patch: TaskPatch, follower: Task | None, now: datetime) -> list[Write]:
    """The writes that a patch leads to: none, or the task's next version, and after it the next occurrence that is
    created, or deleted because the task is not done any more (`follower`: what came after it)."""
    changed = rules.change(task, patch, now=now)
    if changed is task:
        return []
    if rules.reopens(task, patch):
        opened, removed = rules.reopen(changed, patch, follower=follower, now=now)
        return [Write(opened, "updated")] + ([] if removed is None else [Write(removed, "deleted")])
    changed, following = rules.complete(changed, before=task, task_id=uuid7(), now=now)
    return [Write(changed, "updated")] + ([] if following is None else [Write(following, "created")])


def _living(task_id: UUID, task: Task | None) -> Task:
    if task is None:
        raise NoSuchTask(f"There is no task {task_id}.")
    if task.deleted_at is not None:
        raise NoSuchTask(f"Task {task_id} is deleted. POST /v1/tasks/{task_id}:undelete brings it back.")
    return task


async def _commit(
    store: Store, writes: Sequence[Write], status: int, body: str, key: RequestKey | None, now: datetime
) -> Answered:
    """Commits the writes together with the answer, or finds the answer that was given before."""
    if key is None:
        if writes:
            await store.commit(writes, now=now)
        return Answered(status, body, replayed=False)
    kept = await store.commit(writes, Answer(key.subject, key.key, key.fingerprint, status, body), now=now)
    return Answered(status, body, replayed=False) if kept is None else _replayed(kept, key)


def _replayed(kept: Answer, key: RequestKey) -> Answered:
    """The answer that was given before. Raises KeyReused."""
    if kept.fingerprint != key.fingerprint:
        raise KeyReused
    return Answered(kept.status, kept.body, replayed=True)
