"""Tasks in the memory of this process, lost when it exits. The reference model for the other stores."""

from __future__ import annotations

import functools
import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from task_api.store.protocol import (
    IDEMPOTENCY_HOURS,
    ChangesPurged,
    IdempotencyRecord,
    InvalidFeedCursor,
    Names,
    OtherHistory,
    StoredChange,
    TaskJson,
    VersionConflict,
    VersionedJson,
    Write,
    versioned_json,
)
from task_api.tasks.models import Task, to_json
from task_api.tasks.query import Filters, NameKind, Query, sort_value

STARTS = 10**17
"""The feed starts with a random number below this, so that cursors of an earlier process, whose tasks are lost, are not
valid in this one."""


class MemoryStore:
    kind = "memory"

    def __init__(self) -> None:
        self._tasks: dict[UUID, Task] = {}
        self._changes: list[StoredChange] = []
        self._first = self._purged = secrets.randbelow(STARTS)  # the cursor of the last purged change
        self._records: dict[tuple[str, str], tuple[IdempotencyRecord, datetime]] = {}

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def ping(self) -> None: ...

    async def commit(
        self, writes: Sequence[Write], record: IdempotencyRecord | None = None, *, now: datetime
    ) -> IdempotencyRecord | None:
        if record is not None and (existing := await self.get_record(record.subject, record.key, now=now)) is not None:
            return existing
        versions = {write.task.id: self._version(write.task.id) for write in writes}
        for write in writes:
            versions[write.task.id] += 1
            if write.task.version != versions[write.task.id]:
                raise VersionConflict
        for write in writes:
            self._tasks[write.task.id] = write.task
            cursor = str(self._purged + len(self._changes) + 1)
            self._changes.append(StoredChange(cursor, write.type, write.task))
        if record is not None:
            self._records[record.subject, record.key] = record, now
        return None

    async def get_record(self, subject: str, key: str, *, now: datetime) -> IdempotencyRecord | None:
        record, stored_at = self._records.get((subject, key), (None, now))
        return record if stored_at > now - timedelta(hours=IDEMPOTENCY_HOURS) else None

    def _version(self, task_id: UUID) -> int:
        task = self._tasks.get(task_id)
        return 0 if task is None else task.version

    async def get(self, task_id: UUID) -> Task | None:
        return self._tasks.get(task_id)

    async def get_json(self, task_id: UUID) -> VersionedJson | None:
        return versioned_json(await self.get(task_id))

    async def get_many(self, task_ids: Sequence[UUID]) -> dict[UUID, Task]:
        return {task_id: self._tasks[task_id] for task_id in task_ids if task_id in self._tasks}

    async def page(self, query: Query, *, size: int) -> list[Task]:
        found = [task for task in self._tasks.values() if query.filters.match(task)]
        found.sort(key=functools.cmp_to_key(lambda a, b: _compare(query, _keyset(query, a), _keyset(query, b))))
        if query.after is not None:
            after = query.after
            found = [task for task in found if _compare(query, _keyset(query, task), after) > 0]
        return found[:size]

    async def page_json(self, query: Query, *, size: int) -> list[TaskJson]:
        return [(content, content) for content in map(to_json, await self.page(query, size=size))]

    async def count_found(self, filters: Filters, *, limit: int) -> int:
        return min(limit, sum(filters.match(task) for task in self._tasks.values()))

    async def names(self, kind: NameKind, *, scan: int, limit: int) -> Names:
        newest = sorted(self._tasks, reverse=True)[:scan]
        counts: Counter[str] = Counter()
        for task in (self._tasks[task_id] for task_id in newest):
            if task.deleted_at is None:
                of_task = task.labels if kind == "label" else [task.project if kind == "project" else task.assignee]
                counts.update(name for name in of_task if name is not None)
        found = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return Names(tuple(found[:limit]), whole=len(self._tasks) <= scan and len(found) <= limit)

    async def count(self) -> int:
        return sum(task.deleted_at is None for task in self._tasks.values())

    async def changes(self, after: str | None, *, size: int) -> list[StoredChange]:
        if after is None:
            return self._changes[:size]
        if not (after.isascii() and after.isdigit() and len(after) < 19):
            raise InvalidFeedCursor
        if not self._first <= int(after) <= self._purged + len(self._changes):
            raise OtherHistory
        if int(after) < self._purged:
            raise ChangesPurged
        begin = int(after) - self._purged
        return self._changes[begin : begin + size]

    async def last_cursor(self) -> str:
        return str(self._purged + len(self._changes))

    async def feed_lag(self) -> float:
        return 0.0

    async def purge(self, *, deleted_before: datetime, records_before: datetime) -> int:
        purged = [t.id for t in self._tasks.values() if t.deleted_at is not None and t.deleted_at < deleted_before]
        for task_id in purged:
            del self._tasks[task_id]
        old = 0
        while old < len(self._changes) and self._changes[old].task.updated_at < deleted_before:
            old += 1
        del self._changes[:old]
        self._purged += old
        self._records = {key: record for key, record in self._records.items() if record[1] >= records_before}
        return len(purged)


def _keyset(query: Query, task: Task) -> tuple[tuple[Any, ...], UUID]:
    return tuple(sort_value(task, step.key) for step in query.order), task.id


def _compare(query: Query, a: tuple[tuple[Any, ...], UUID], b: tuple[tuple[Any, ...], UUID]) -> int:
    """-1 if position a comes before b in the list. Ties are broken by id, in the direction of the last sort key."""
    directions = [step.descending for step in query.order]
    for x, y, descending in zip((*a[0], a[1]), (*b[0], b[1]), (*directions, directions[-1]), strict=True):
        if x != y:
            return -1 if (x > y) is descending else 1
    return 0
