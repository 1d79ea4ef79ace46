"""Settings of this service, in addition to those of every service."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis import settings


class Settings(settings.Settings):
    """Read from the environment: `YOUR_SERVICE_` and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="YOUR_SERVICE_")

    greeting: str = Field(default="Hello", min_length=1, max_length=100, description="word to greet callers with")
