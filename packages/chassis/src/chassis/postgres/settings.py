"""Settings of a service with a database, in addition to those of every service."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator

from chassis import settings
from chassis.postgres import url
from chassis.postgres.database import Limits
from chassis.settings import Seconds


def _postgres_url(value: SecretStr) -> SecretStr:
    url.parse(value.get_secret_value())
    return value


PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url)]

MUST_NOT_EXCEED = {
    "database_statement_seconds": "database_seconds",
    "database_lock_seconds": "database_statement_seconds",
}
"""Timeouts that must not be longer than another."""


class DatabaseSettings(settings.Settings):
    """The base class of a service's settings, which set the prefix, and may set a different default URL."""

    database_url: PostgresUrl = Field(
        default=SecretStr("postgresql://localhost"), description="storage: postgresql://user:password@host/name"
    )
    database_pool_size: int = Field(
        default=5,
        ge=1,
        le=100,
        description="maximum connections to PostgreSQL; all pods together must stay below its max_connections",
    )
    database_queue_size: int = Field(
        default=100,
        ge=0,
        le=10_000,
        description="maximum number of requests waiting for the storage; more are rejected with 503",
    )
    database_pooler: url.Pooler = Field(
        default="none",
        description="pooler between the service and PostgreSQL: none, or its mode, session or transaction",
    )
    database_prepared_statements: bool = Field(
        default=True,
        description="use prepared statements; false behind a pooler without support for them",
    )
    database_wait_seconds: float = Field(
        default=60,
        ge=0,
        description="seconds to wait at startup for a PostgreSQL that is not available yet; inf waits forever",
    )
    database_seconds: Seconds = Field(
        default=5, description="timeout of a database operation in seconds, including waiting and retries"
    )
    database_statement_seconds: Seconds = Field(
        default=2,
        validate_default=True,
        description="timeout of a statement in seconds (PostgreSQL's statement_timeout)",
    )
    database_lock_seconds: Seconds = Field(
        default=1,
        validate_default=True,
        description="timeout of a statement's wait for a lock in seconds (PostgreSQL's lock_timeout)",
    )

    @property
    def limits(self) -> Limits:
        """The limits for the database."""
        return Limits(
            pool_size=self.database_pool_size,
            queue_size=self.database_queue_size,
            seconds=self.database_seconds,
            statement_seconds=self.database_statement_seconds,
            lock_seconds=self.database_lock_seconds,
            pooler=self.database_pooler,
            prepared_statements=self.database_prepared_statements,
        )

    @field_validator(*MUST_NOT_EXCEED)
    @classmethod
    def _check_order(cls, seconds: float, info: ValidationInfo) -> float:
        assert info.field_name is not None
        longer = MUST_NOT_EXCEED[info.field_name]
        maximum = info.data.get(longer)  # None if it is itself invalid
        if maximum is not None and seconds > maximum:
            raise ValueError(f"{seconds:g} is more than {cls.variable(longer)}, which is {maximum:g}")
        return seconds
