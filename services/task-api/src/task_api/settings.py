"""Settings of this service, in addition to those of every service with a database."""

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

    The prefix is not `TASK_API_`: in the namespace of a Service named `task-api`, Kubernetes sets
    `TASK_API_PORT=tcp://...` in every pod.
    """

    model_config = SettingsConfigDict(env_prefix="TASKS_")

    database_url: Annotated[SecretStr, AfterValidator(_storage_url)] = Field(
        default=SecretStr("memory://"),
        description="storage: memory://, sqlite:///relative/path, sqlite:////absolute/path or postgresql://user:password@host/name",
    )
