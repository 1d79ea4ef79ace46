"""The commands of a service with PostgreSQL, in addition to those of every service."""

from __future__ import annotations

from chassis.service import Command, Service
from chassis.settings import Settings


def migrate_command(settings: type[Settings]) -> Command:
    """`migrate`, for Service.commands. settings: the class with `database_url`, which the command's help names."""
    return Command("migrate", f"migrate the schema of {settings.variable('database_url')} and exit", _migrate)


async def _migrate(service: Service) -> None:
    try:
        await service.open()  # which applies migrations
    finally:
        await service.close()
