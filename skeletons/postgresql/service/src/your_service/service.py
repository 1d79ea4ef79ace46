"""What this service is: all that the chassis, which runs it, knows of it."""

from fastapi import FastAPI

from chassis.metrics import Metrics
from chassis.postgres.command_line import migrate_command
from chassis.postgres.service import PostgresService, health_texts
from your_service import __version__, notes
from your_service.settings import Settings
from your_service.store import NoteStore


class YourService(PostgresService):
    """Keeps notes, which all of its pods share."""

    name = "your-service"
    version = __version__
    title = "Your Service API"
    description = "Keeps notes. Errors are problem documents (RFC 9457)."
    tags = ({"name": "notes", "description": "An example, to put your own things in the place of"},)
    settings = Settings
    metrics = Metrics("your_service")
    health = health_texts("notes")
    credential_prefix = "your_service_"
    scope_prefix = "your-service"
    commands = (migrate_command(Settings),)

    def __init__(self, settings: Settings) -> None:
        self._notes = NoteStore(settings)
        super().__init__(self._notes)

    def add_to(self, app: FastAPI) -> None:
        """Gives `app` its routes, and the store that they ask for in its state."""
        app.state.store = self._notes
        app.include_router(notes.router)
