"""Tasks in this process's memory: gone when it ends, and the model that the other stores must equal."""

from __future__ import annotations

from uuid import UUID

from task_api.tasks.models import Task


class MemoryStore:
    kind = "memory"

    def __init__(self) -> None:
        self._tasks: dict[UUID, Task] = {}

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def ping(self) -> None: ...

    async def add(self, task: Task) -> None:
        self._tasks[task.id] = task

    async def get(self, task_id: UUID) -> Task | None:
        return self._tasks.get(task_id)

    async def page(self, *, size: int, before: UUID | None) -> list[Task]:
        ids = sorted((i for i in self._tasks if before is None or i < before), reverse=True)
        return [self._tasks[i] for i in ids[:size]]

    async def replace(self, task: Task) -> bool:
        kept = self._tasks.get(task.id)
        if kept is None or kept.version != task.version - 1:
            return False
        self._tasks[task.id] = task
        return True

    async def remove(self, task_id: UUID) -> bool:
        return self._tasks.pop(task_id, None) is not None

    async def count(self) -> int:
        return len(self._tasks)
