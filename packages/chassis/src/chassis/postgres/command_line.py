"""What a service with PostgreSQL can be told on the command line, beside what every service can be told."""

from __future__ import annotations

from chassis.service import Command, Service
from chassis.settings import Settings


def migrate_command(settings: type[Settings]) -> Command:
    """`migrate`, for Service.commands. settings: those with `database_url`, which its help names."""
    return Command("migrate", f"bring the schema of {settings.variable('database_url')} up to date and end", _migrate)


async def _migrate(service: Service) -> None:
    try:
        await service.open()  # opening brings the schema up to date
    finally:
        await service.close()
