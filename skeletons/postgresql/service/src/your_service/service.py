"""The definition of this service: everything that the chassis, which runs it, needs to know."""

from fastapi import FastAPI

from chassis.metrics import Metrics
from chassis.postgres.command_line import migrate_command
from chassis.postgres.service import PostgresService, health_texts
from your_service import __version__, notes
from your_service.settings import Settings
from your_service.store import NoteStore


class YourService(PostgresService):
    """Stores notes, shared by all pods."""

    name = "your-service"
    version = __version__
    title = "Your Service API"
    description = "Stores notes. Errors are problem documents (RFC 9457)."
    tags = ({"name": "notes", "description": "An example, to be replaced by your own resources"},)
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
        """Adds the routes to `app`, and their store to its state."""
        app.state.store = self._notes
        app.include_router(notes.router)
