"""What every kind of storage can do."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from task_api.tasks.models import Task


class StoreUnavailable(Exception):
    """The storage cannot be reached or opened; the message says which one, why, and what to do."""


class Store(Protocol):
    """Keeps tasks. A write that returned is durable (memory excepted); nothing else was changed.

    Stores decide nothing: they are given whole tasks, made and changed by `tasks.rules`.
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

    async def add(self, task: Task) -> None:
        """Keeps a new task. Its id is new (UUIDv7), so there is no conflict to report."""

    async def get(self, task_id: UUID) -> Task | None:
        """The task, or None where there is none."""

    async def page(self, *, size: int, before: UUID | None) -> list[Task]:
        """Up to `size` tasks, newest first; only those older than `before` where it is given."""

    async def replace(self, task: Task) -> bool:
        """Puts `task` (version n) in the place of its version n - 1; False if that is not what is kept."""

    async def remove(self, task_id: UUID) -> bool:
        """Removes the task; False where there is none."""

    async def count(self) -> int:
        """How many tasks there are."""
