"""The interface of every storage backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Protocol, TypeAlias
from uuid import UUID

from task_api.tasks.models import ChangeType, Task, to_json
from task_api.tasks.query import Filters, NameKind, Query

IDEMPOTENCY_HOURS = 24
"""How long an idempotency record is valid."""


class VersionConflict(Exception):
    """A task of the commit is no longer at the previous version: a concurrent commit won. Nothing was written."""


class IdempotencyKeyInUse(Exception):
    """Another request with the same Idempotency-Key is still in progress. Nothing was written."""


class ChangesPurged(Exception):
    """Changes after this cursor were purged from the feed. The reader has to start over with a list."""


class OtherHistory(Exception):
    """The feed has no change at this cursor: the storage that issued it was since restored to an earlier state, or
    lost its last changes in a failover. The reader has to start over with a list."""


class InvalidFeedCursor(Exception):
    """This is not a cursor of this storage's change feed."""


@dataclass(frozen=True)
class Write:
    """A task's next version: 1 for a new task, otherwise the stored version plus one."""

    task: Task
    type: ChangeType

    @cached_property
    def json(self) -> str:
        """The task as the change feed stores it and as the response to the write returns it."""
        return self.task.model_dump_json()


@dataclass(frozen=True)
class IdempotencyRecord:
    """The response to a request with an Idempotency-Key, stored with its writes and replayed to retries.

    fingerprint: of the request, to distinguish a retry from another request under the same key. body: JSON.
    """

    subject: str
    key: str
    fingerprint: str
    status: int
    body: str


@dataclass(frozen=True)
class StoredChange:
    """One entry of the change feed. cursor: its place in the feed; opaque, valid for `changes` of the same storage."""

    cursor: str
    type: ChangeType
    task: Task


@dataclass(frozen=True)
class Names:
    """Labels, projects or assignees with their task counts, ordered by count (descending), then by code points.

    whole: whether the list is complete and every task was counted.
    """

    counts: tuple[tuple[str, int], ...]
    whole: bool


TaskJson: TypeAlias = tuple[bytes, bytes]
"""A stamp, which differs wherever the content differs, and the content: a task as a response has it.

A tuple: an instance of a class per task takes 6 µs more for a list of 50.
"""

VersionedJson: TypeAlias = tuple[int, bytes]
"""A task's version, and the task as a response has it."""


def versioned_json(task: Task | None) -> VersionedJson | None:
    """See Store.get_json."""
    return None if task is None or task.deleted_at else (task.version, to_json(task))


class Store(Protocol):
    """A storage backend for tasks. A commit that returned is durable (except in memory).

    Stores contain no business rules: they receive complete versions of tasks, made by `tasks.rules`.
    Every method raises StoreUnavailable when the storage does not respond.
    """

    kind: str
    """`memory`, `sqlite` or `postgresql`, as shown in /health and metrics."""

    async def open(self) -> None:
        """Connects and migrates the schema."""

    async def close(self) -> None:
        """Releases all resources. Safe to call on a store that was never opened."""

    async def ping(self) -> None:
        """Checks that the storage responds."""

    async def commit(
        self, writes: Sequence[Write], record: IdempotencyRecord | None = None, *, now: datetime
    ) -> IdempotencyRecord | None:
        """Stores all writes, their entries in the change feed and `record` in one transaction.

        Returns None on success. If an earlier commit stored a record under the same subject and key, not older than
        IDEMPOTENCY_HOURS, writes nothing and returns that record.
        Raises VersionConflict and IdempotencyKeyInUse.
        """

    async def get_record(self, subject: str, key: str, *, now: datetime) -> IdempotencyRecord | None:
        """The idempotency record of the key, not older than IDEMPOTENCY_HOURS, or None."""

    async def get(self, task_id: UUID) -> Task | None:
        """The task, also if it is deleted, or None."""

    async def get_json(self, task_id: UUID) -> VersionedJson | None:
        """The task as JSON, or None if it does not exist or is deleted."""

    async def get_many(self, task_ids: Sequence[UUID]) -> dict[UUID, Task]:
        """The existing ones of these tasks, including deleted ones."""

    async def page(self, query: Query, *, size: int) -> list[Task]:
        """Up to `size` tasks of the list, from its beginning or from `query.after`."""

    async def page_json(self, query: Query, *, size: int) -> list[TaskJson]:
        """The same page as JSON."""

    async def count_found(self, filters: Filters, *, limit: int) -> int:
        """The number of tasks that match the filters, at most `limit`."""

    async def names(self, kind: NameKind, *, scan: int, limit: int) -> Names:
        """The first `limit` names of the newest `scan` tasks. Deleted tasks are scanned, but not counted."""

    async def count(self) -> int:
        """The number of tasks, without deleted ones; an estimate for large tables."""

    async def changes(self, after: str | None, *, size: int) -> list[StoredChange]:
        """Up to `size` entries of the change feed after a cursor, or from its beginning.

        The order is stable: no entry appears before one already returned, however transactions overlap.
        A cursor identifies its change in every copy of the storage that has that change.
        Raises InvalidFeedCursor, ChangesPurged and OtherHistory.
        """

    async def last_cursor(self) -> str:
        """The cursor of the newest entry visible to `changes`: all later entries follow it."""

    async def feed_lag(self) -> float:
        """Age in seconds of the oldest change not yet visible to `changes`; 0 if there is none."""

    async def purge(self, *, deleted_before: datetime, records_before: datetime) -> int:
        """Deletes the tasks deleted and the changes made before `deleted_before`, and idempotency records stored before
        `records_before`.

        Returns the number of tasks removed.
        """
