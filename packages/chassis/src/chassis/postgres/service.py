"""A service whose things are in one PostgreSQL: it is opened, counted, traced and closed."""

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
    """A subclass of Database that counts what it has, or what takes its place on a laptop."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


def health_texts(noun: str) -> HealthTexts:
    """What /health says of things that are in PostgreSQL. noun: what they are called, as in `notes`."""
    return HealthTexts(
        noun=noun,
        total=f"How many {noun} the storage has, counted every five seconds; null when not known",
        gauge=f"How many {noun} the storage has",
        storage="postgresql",
        degraded="The storage does not answer",
        example={"storage": "postgresql", "checks": {"storage": {"status": "ok", "detail": ""}}},
    )


class PostgresService(Service):
    """A subclass sets the attributes that Service asks for. Its `health` is made by `health_texts`."""

    storage = "postgresql"
    open_errors = (StoreUnavailable,)

    def __init__(self, store: Store) -> None:
        """To be called with its store by the subclass, which is itself made of its settings."""
        self._store = store
        self._health = StorageHealth(store)

    async def open(self) -> None:
        """Before the first request; brings the schema up to date. Raises StoreUnavailable."""
        await self._store.open()
        await self._health.start()

    def background(self) -> list[Coroutine[None, None, None]]:
        """What goes on while it is open: the count."""
        return [self._health.count_periodically()]

    async def close(self) -> None:
        """After the last request, or where it could not be opened."""
        await self._store.close()

    async def check_health(self) -> tuple[int | None, dict[str, Check]]:
        """How many things there are, and whether the storage answers; never raises because of it."""
        return await self._health.check_health()

    def instrument(self, provider: TracerProvider) -> None:
        """Makes a span of each statement."""
        trace_statements(provider)
