"""What /health is told of a storage."""

from __future__ import annotations

from chassis.check import Check
from chassis.storage import StoreUnavailable
from chassis.storage_health import StorageHealth

OK = Check(status="ok")


class Shelf:
    """A storage of two things."""

    def __init__(self) -> None:
        self.is_open = False

    async def ping(self) -> None:
        if not self.is_open:
            raise StoreUnavailable("it is not open")

    async def count(self) -> int:
        await self.ping()
        return 2


async def test_who_asks_right_after_the_start_is_not_told_what_was_so_before_it() -> None:
    shelf = Shelf()
    health = StorageHealth(shelf)
    assert await health.condition() == (None, {"storage": Check(status="failed", detail="it is not open")})
    shelf.is_open = True
    await health.opened()
    assert await health.condition() == (2, {"storage": OK})
