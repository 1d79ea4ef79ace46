"""The definition of this service."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic_settings import SettingsConfigDict

from chassis import settings
from chassis.check import Check
from chassis.metrics import Metrics
from chassis.service import HealthTexts, Service
from hello.greetings import Greeter, router


class Settings(settings.Settings):
    """Read from the environment: `HELLO_` and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="HELLO_")


class Hello(Service):
    """Says hello, and stores nothing."""

    name = "hello"
    version = "1.2.3"
    title = "Hello API"
    description = "Says hello."
    tags = ({"name": "hello", "description": "An example"},)
    settings = Settings
    metrics = Metrics("hello")
    health = HealthTexts(noun="hellos", total="None", gauge="None")
    credential_prefix = "hello_"
    scope_prefix = "hello"

    def __init__(self, settings: Settings) -> None:
        self._greeter = Greeter()

    def add_to(self, app: FastAPI) -> None:
        """Adds the routes to `app`, and their state."""
        app.state.greeter = self._greeter
        app.include_router(router)

    def end_streams(self) -> None:
        """Ends endless streams."""
        self._greeter.end()

    async def check_health(self) -> tuple[int | None, dict[str, Check]]:
        """There is no storage to check."""
        return 0, {}
