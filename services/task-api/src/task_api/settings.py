"""What can be set from outside, beside what every service lets set."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis import settings
from chassis.settings import Seconds
from task_api import store


def _storage_url(url: SecretStr) -> SecretStr:
    store.check_url(url.get_secret_value())
    return url


def _within(setting: str) -> AfterValidator:
    """A time that has to be over before another one is."""

    def check(seconds: float, given: ValidationInfo) -> float:
        most = given.data.get(setting)
        if most is not None and seconds > most:
            raise ValueError(f"{seconds:g} is more than TASKS_{setting.upper()}, which is {most:g}")
        return seconds

    return AfterValidator(check)


class DatabaseSettings(BaseSettings):
    """Those of the storage."""

    database_url: Annotated[SecretStr, AfterValidator(_storage_url)] = Field(
        default=SecretStr("memory://"),
        description="storage: memory://, sqlite:///relative/path, sqlite:////absolute/path or postgresql://user:password@host/name",
    )
    database_pool_size: int = Field(
        default=5,
        ge=1,
        le=100,
        description="number of connections to PostgreSQL; all pods together must stay below its max_connections",
    )
    database_queue_size: int = Field(
        default=100, ge=0, le=10_000, description="number of requests that may wait for the storage; more get a 503"
    )
    database_wait_seconds: float = Field(
        default=60, ge=0, description="seconds to wait at start for a PostgreSQL that does not answer yet"
    )
    database_seconds: Seconds = Field(
        default=5, description="seconds that a piece of work may take in PostgreSQL, with waiting and trying again"
    )
    database_statement_seconds: Annotated[Seconds, _within("database_seconds")] = Field(
        default=2,
        validate_default=True,
        description="seconds that a statement may take (PostgreSQL's statement_timeout)",
    )
    database_lock_seconds: Annotated[Seconds, _within("database_statement_seconds")] = Field(
        default=1,
        validate_default=True,
        description="seconds that a statement may wait for a lock (PostgreSQL's lock_timeout)",
    )


class Settings(settings.Settings, DatabaseSettings):
    """Read from the environment: `TASKS_` and the field's name in capitals.

    The prefix is not `TASK_API_`: Kubernetes gives every pod beside a Service named `task-api`
    a variable `TASK_API_PORT=tcp://...`.
    """

    model_config = SettingsConfigDict(env_prefix="TASKS_")
