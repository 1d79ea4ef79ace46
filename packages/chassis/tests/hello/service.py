"""What this service is."""

from __future__ import annotations

from fastapi import APIRouter, Depends, FastAPI
from pydantic_settings import SettingsConfigDict

from chassis import settings
from chassis.auth import requires
from chassis.check import Check
from chassis.metrics import Metrics
from chassis.problems import problem_responses
from chassis.service import HealthTexts, Service

router = APIRouter(prefix="/v1/hello", tags=["hello"])


@router.get("", dependencies=[Depends(requires("read"))], responses=problem_responses(401, 403, 429, 503))
async def say_hello() -> dict[str, str]:
    """Greets the world."""
    return {"message": "Hello, world!"}


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

    def add_to(self, app: FastAPI) -> None:
        """Gives `app` its routes."""
        app.include_router(router)

    async def condition(self) -> tuple[int | None, dict[str, Check]]:
        """Nothing is kept, and nothing can be lost."""
        return 0, {}
