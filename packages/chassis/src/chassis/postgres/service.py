"""A service with its data in one PostgreSQL database: startup, health, traces and shutdown."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Protocol

from chassis.check import Check
from chassis.postgres.tracing import trace_statements
from chassis.service import HealthTexts, Service
from chassis.storage import StoreUnavailable
from chassis.storage_health import Storage, StorageHealth

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


class Store(Storage, Protocol):
    """A subclass of Database that counts its rows, or its substitute on a laptop."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


def health_texts(noun: str) -> HealthTexts:
    """The texts of /health for data in PostgreSQL. noun: the plural of what is stored, such as `notes`."""
    return HealthTexts(
        noun=noun,
        total=f"Number of {noun} in the database, counted every five seconds; null if unknown",
        gauge=f"Number of {noun} in the database",
        storage="postgresql",
        degraded="The database is not responding",
        example={"storage": "postgresql", "checks": {"storage": {"status": "ok", "detail": ""}}},
    )


class PostgresService(Service):
    """A subclass sets the attributes that Service requires. `health_texts` makes its `health`."""

    storage = "postgresql"
    open_errors = (StoreUnavailable,)

    def __init__(self, store: Store) -> None:
        """To be called by the subclass with its store; the subclass itself takes its settings."""
        self._store = store
        self._health = StorageHealth(store)

    async def open(self) -> None:
        """Before the first request; applies migrations. Raises StoreUnavailable."""
        await self._store.open()
        await self._health.start()

    def background(self) -> list[Coroutine[None, None, None]]:
        """Background work while it is open: counting rows."""
        return [self._health.count_periodically()]

    async def close(self) -> None:
        """After the last request, or after opening failed."""
        await self._store.close()

    async def check_health(self) -> tuple[int | None, dict[str, Check]]:
        """The number of rows, and whether the database is responding; does not raise if it is not."""
        return await self._health.check_health()

    def instrument(self, provider: TracerProvider) -> None:
        """Records a span per statement."""
        trace_statements(provider)
