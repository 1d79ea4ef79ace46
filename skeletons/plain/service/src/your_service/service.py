"""The definition of this service: everything that the chassis, which runs it, needs to know."""

from fastapi import FastAPI

from chassis.metrics import Metrics
from chassis.service import Service
from your_service import __version__, hello
from your_service.settings import Settings


class YourService(Service):
    """Says hello. It stores nothing: all pods are interchangeable."""

    name = "your-service"
    version = __version__
    title = "Your Service API"
    description = "Says hello. Errors are problem documents (RFC 9457)."
    tags = ({"name": "hello", "description": "An example, to be replaced by your own routes"},)
    settings = Settings
    metrics = Metrics("your_service")
    credential_prefix = "your_service_"
    scope_prefix = "your-service"

    def add_to(self, app: FastAPI) -> None:
        """Adds the routes to `app`."""
        app.include_router(hello.router)
