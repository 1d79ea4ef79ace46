"""Tasks in this process's memory: gone when it ends, and the model that the other stores must equal."""

from __future__ import annotations

import functools
import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from task_api.store.protocol import (
    ANSWER_HOURS,
    Answer,
    ChangesPurged,
    Names,
    OtherHistory,
    StoredChange,
    TaskJson,
    VersionConflict,
    Write,
    WrongPosition,
)
from task_api.tasks.models import Task, to_json
from task_api.tasks.query import Filters, NameKind, Query, sort_value


class MemoryStore:
    kind = "memory"

    def __init__(self) -> None:
        self._tasks: dict[UUID, Task] = {}
        self._changes: list[StoredChange] = []
        # Positions of another process, whose tasks are gone with it, are not among those of this one.
        self._first = self._purged = secrets.randbelow(10**17)  # the position of what is gone from the feed
        self._answers: dict[tuple[str, str], tuple[Answer, datetime]] = {}

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def ping(self) -> None: ...

    async def commit(self, writes: Sequence[Write], answer: Answer | None = None, *, now: datetime) -> Answer | None:
        if answer is not None and (kept := await self.answer(answer.subject, answer.key, now=now)) is not None:
            return kept
        versions = {write.task.id: self._version(write.task.id) for write in writes}
        for write in writes:
            versions[write.task.id] += 1
            if write.task.version != versions[write.task.id]:
                raise VersionConflict
        for write in writes:
            self._tasks[write.task.id] = write.task
            position = str(self._purged + len(self._changes) + 1)
            self._changes.append(StoredChange(position, write.type, write.task))
        if answer is not None:
            self._answers[answer.subject, answer.key] = answer, now
        return None

    async def answer(self, subject: str, key: str, *, now: datetime) -> Answer | None:
        kept, at = self._answers.get((subject, key), (None, now))
        return kept if at > now - timedelta(hours=ANSWER_HOURS) else None

    def _version(self, task_id: UUID) -> int:
        task = self._tasks.get(task_id)
        return 0 if task is None else task.version

    async def get(self, task_id: UUID) -> Task | None:
        return self._tasks.get(task_id)

    async def get_many(self, task_ids: Sequence[UUID]) -> dict[UUID, Task]:
        return {task_id: self._tasks[task_id] for task_id in task_ids if task_id in self._tasks}

    async def page(self, query: Query, *, size: int) -> list[Task]:
        found = [task for task in self._tasks.values() if query.filters.match(task)]
        found.sort(key=functools.cmp_to_key(lambda a, b: _compare(query, _place(query, a), _place(query, b))))
        if query.after is not None:
            after = query.after
            found = [task for task in found if _compare(query, _place(query, task), after) > 0]
        return found[:size]

    async def page_json(self, query: Query, *, size: int) -> list[TaskJson]:
        return [(content, content) for content in map(to_json, await self.page(query, size=size))]

    async def count_found(self, filters: Filters, *, most: int) -> int:
        return min(most, sum(filters.match(task) for task in self._tasks.values()))

    async def names(self, kind: NameKind, *, among: int, most: int) -> Names:
        newest = sorted(self._tasks, reverse=True)[:among]
        counts: Counter[str] = Counter()
        for task in (self._tasks[task_id] for task_id in newest):
            if task.deleted_at is None:
                of_task = task.labels if kind == "label" else [task.project if kind == "project" else task.assignee]
                counts.update(name for name in of_task if name is not None)
        found = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return Names(tuple(found[:most]), whole=len(self._tasks) <= among and len(found) <= most)

    async def count(self) -> int:
        return sum(task.deleted_at is None for task in self._tasks.values())

    async def changes(self, after: str | None, *, size: int) -> list[StoredChange]:
        if after is None:
            return self._changes[:size]
        if not (after.isascii() and after.isdigit() and len(after) < 20):
            raise WrongPosition
        if not self._first <= int(after) <= self._purged + len(self._changes):
            raise OtherHistory
        if int(after) < self._purged:
            raise ChangesPurged
        begin = int(after) - self._purged
        return self._changes[begin : begin + size]

    async def last_position(self) -> str:
        return str(self._purged + len(self._changes))

    async def feed_lag(self) -> float:
        return 0.0

    async def purge(self, *, deleted_before: datetime, answers_before: datetime) -> int:
        gone = [t.id for t in self._tasks.values() if t.deleted_at is not None and t.deleted_at < deleted_before]
        for task_id in gone:
            del self._tasks[task_id]
        old = 0
        while old < len(self._changes) and self._changes[old].task.updated_at < deleted_before:
            old += 1
        del self._changes[:old]
        self._purged += old
        self._answers = {key: kept for key, kept in self._answers.items() if kept[1] >= answers_before}
        return len(gone)


def _place(query: Query, task: Task) -> tuple[tuple[Any, ...], UUID]:
    return tuple(sort_value(task, step.key) for step in query.order), task.id


def _compare(query: Query, a: tuple[tuple[Any, ...], UUID], b: tuple[tuple[Any, ...], UUID]) -> int:
    """-1 where place a comes before place b in the list. Ties are broken by the id, in the last step's direction."""
    directions = [step.descending for step in query.order]
    for x, y, descending in zip((*a[0], a[1]), (*b[0], b[1]), (*directions, directions[-1]), strict=True):
        if x != y:
            return -1 if (x > y if descending else x < y) else 1
    return 0
