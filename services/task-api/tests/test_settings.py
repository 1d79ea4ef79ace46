"""The default settings."""

from __future__ import annotations

from pydantic import SecretStr

from chassis.postgres.settings import DatabaseSettings
from chassis.settings import Settings as AnySettings
from task_api.settings import Settings


def defaults(settings: type[AnySettings]) -> dict[str, object]:
    return {name: field.get_default() for name, field in settings.model_fields.items()}


def test_the_defaults_differ_from_the_chassis_only_in_the_database_url() -> None:
    assert defaults(Settings) == {**defaults(DatabaseSettings), "database_url": SecretStr("memory://")}
