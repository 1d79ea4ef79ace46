"""What can be set from outside, beside what every service with a database lets set."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from chassis.postgres.settings import DatabaseSettings
from task_api import store


def _storage_url(url: SecretStr) -> SecretStr:
    store.check_url(url.get_secret_value())
    return url


class Settings(DatabaseSettings):
    """Read from the environment: `TASKS_` and the field's name in capitals.

    The prefix is not `TASK_API_`: Kubernetes gives every pod beside a Service named `task-api`
    a variable `TASK_API_PORT=tcp://...`.
    """

    model_config = SettingsConfigDict(env_prefix="TASKS_")

    database_url: Annotated[SecretStr, AfterValidator(_storage_url)] = Field(
        default=SecretStr("memory://"),
        description="storage: memory://, sqlite:///relative/path, sqlite:////absolute/path or postgresql://user:password@host/name",
    )
