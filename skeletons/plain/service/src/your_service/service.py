"""What this service is: all that the chassis, which runs it, knows of it."""

from fastapi import FastAPI

from chassis.metrics import Metrics
from chassis.service import Service
from your_service import __version__, hello
from your_service.settings import Settings


class YourService(Service):
    """Says hello. It keeps nothing, so its pods are all alike."""

    name = "your-service"
    version = __version__
    title = "Your Service API"
    description = "Says hello. Errors are problem documents (RFC 9457)."
    tags = ({"name": "hello", "description": "An example, to put your own routes in the place of"},)
    settings = Settings
    metrics = Metrics("your_service")
    credential_prefix = "your_service_"
    scope_prefix = "your-service"

    def add_to(self, app: FastAPI) -> None:
        """Gives `app` its routes."""
        app.include_router(hello.router)
