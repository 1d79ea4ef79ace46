"""What every kind of storage can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Protocol, TypeAlias
from uuid import UUID

from task_api.tasks.models import ChangeType, Task
from task_api.tasks.query import Filters, NameKind, Query

ANSWER_HOURS = 24
"""How long the answer under an Idempotency-Key is kept."""


class VersionConflict(Exception):
    """A task of the commit is not at the version before: somebody else was faster. Nothing was changed."""


class KeyInUse(Exception):
    """Another request with the same Idempotency-Key is still under way. Nothing was changed."""


class ChangesPurged(Exception):
    """The feed no longer has what came after this position. The reader has to begin again with a list."""


class OtherHistory(Exception):
    """The feed has no change at this position: it was told by a storage that was restored to an earlier state since,
    or lost its last changes in a failover. The reader has to begin again with a list."""


class WrongPosition(Exception):
    """This is not a position in the feed of this storage."""


@dataclass(frozen=True)
class Write:
    """A task's next version: 1 for a new task, else one more than what is kept."""

    task: Task
    type: ChangeType

    @cached_property
    def json(self) -> str:
        """The task as the change feed keeps it, and as the client who wrote it is answered."""
        return self.task.model_dump_json()


@dataclass(frozen=True)
class Answer:
    """What a request with an Idempotency-Key was answered: kept with its writes, to be given again.

    fingerprint: of the request, to tell a repetition from another request under the same key. body: JSON.
    """

    subject: str
    key: str
    fingerprint: str
    status: int
    body: str


@dataclass(frozen=True)
class StoredChange:
    """One entry of the change feed. position: where it stands; opaque, for `changes` of the same storage."""

    position: str
    type: ChangeType
    task: Task


@dataclass(frozen=True)
class Names:
    """Labels, projects or assignees, each with the number of tasks that have it: most first, then by code points.

    whole: whether they are all there are, with all their tasks.
    """

    counts: tuple[tuple[str, int], ...]
    whole: bool


TaskJson: TypeAlias = tuple[bytes, bytes]
"""A stamp, which is another one where the content is another, and the content: a task as it is sent.

A tuple: an instance of a class for each task takes 6 µs more of a list of 50.
"""


class Store(Protocol):
    """Keeps tasks. A commit that returned is durable (memory excepted).

    Stores decide nothing: they are given whole versions of tasks, made by `tasks.rules`.
    Every method raises StoreUnavailable when the storage does not answer.
    """

    kind: str
    """`memory`, `sqlite` or `postgresql`: what people and metrics are told."""

    async def open(self) -> None:
        """Connects and brings the schema up to date."""

    async def close(self) -> None:
        """Gives everything back. Safe to call on a store that was never opened."""

    async def ping(self) -> None:
        """Asks the storage for an answer."""

    async def commit(self, writes: Sequence[Write], answer: Answer | None = None, *, now: datetime) -> Answer | None:
        """Keeps all writes, their entries in the change feed and `answer` in one transaction, or nothing of it.

        Returns None when it did so; what was kept under `answer`'s key and subject by an earlier commit when there
        is such an answer that is not older than ANSWER_HOURS: nothing is written then.
        Raises VersionConflict and KeyInUse.
        """

    async def answer(self, subject: str, key: str, *, now: datetime) -> Answer | None:
        """What is kept under the key, not older than ANSWER_HOURS; None where there is no such answer."""

    async def get(self, task_id: UUID) -> Task | None:
        """The task, deleted ones included; None where there is none."""

    async def get_many(self, task_ids: Sequence[UUID]) -> dict[UUID, Task]:
        """Those of the tasks that there are, deleted ones included."""

    async def page(self, query: Query, *, size: int) -> list[Task]:
        """Up to `size` tasks of the list, from its beginning or from `query.after`."""

    async def page_json(self, query: Query, *, size: int) -> list[TaskJson]:
        """The same, each as it is sent."""

    async def count_found(self, filters: Filters, *, most: int) -> int:
        """How many tasks the filters find; `most` where there are more."""

    async def names(self, kind: NameKind, *, among: int, most: int) -> Names:
        """The first `most` names of the newest `among` tasks. Of those the deleted ones are read, but not counted."""

    async def count(self) -> int:
        """How many tasks there are, without the deleted ones. Where there are very many, an estimate."""

    async def changes(self, after: str | None, *, size: int) -> list[StoredChange]:
        """Up to `size` entries of the change feed after a position, or from its beginning.

        In an order in which nothing can appear before what was returned already, however transactions overlap.
        A position stands for the change before it, in every copy of the storage that has that change.
        Raises WrongPosition, ChangesPurged and OtherHistory.
        """

    async def last_position(self) -> str:
        """The position of the newest entry that `changes` would return: only what comes later is after it."""

    async def feed_lag(self) -> float:
        """Seconds since the oldest change was made that `changes` does not return yet; 0 where there is none."""

    async def purge(self, *, deleted_before: datetime, answers_before: datetime) -> int:
        """Removes tasks deleted, and changes made, before the one moment, answers kept before the other.

        Returns the number of tasks removed.
        """
