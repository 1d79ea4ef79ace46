"""Settings of this service: those of every service with a database."""

from pydantic_settings import SettingsConfigDict

from chassis.postgres.settings import DatabaseSettings


class Settings(DatabaseSettings):
    """Read from the environment: `YOUR_SERVICE_` and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="YOUR_SERVICE_")
