"""What this service is."""

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
    """Says hello, and keeps nothing."""

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
        """Gives `app` its routes, and what they ask for in its state."""
        app.state.greeter = self._greeter
        app.include_router(router)

    def end_streams(self) -> None:
        """Ends what would not end by itself."""
        self._greeter.end()

    async def check_health(self) -> tuple[int | None, dict[str, Check]]:
        """Nothing is kept, and nothing can be lost."""
        return 0, {}
