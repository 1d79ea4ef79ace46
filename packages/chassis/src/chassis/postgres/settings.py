"""What can be set from outside of a service with a database, beside what every service lets set."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator

from chassis import settings
from chassis.postgres import url
from chassis.postgres.database import Limits
from chassis.settings import Seconds


def _postgres_url(given: SecretStr) -> SecretStr:
    url.parse(given.get_secret_value())
    return given


PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url)]

LONGER = {
    "database_statement_seconds": "database_seconds",
    "database_lock_seconds": "database_statement_seconds",
}
"""Times that have to be over before another one is."""


class DatabaseSettings(settings.Settings):
    """A service's settings are a subclass, which names the prefix, and may have a default URL of its own."""

    database_url: PostgresUrl = Field(
        default=SecretStr("postgresql://localhost"), description="storage: postgresql://user:password@host/name"
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
    database_pooler: url.Pooler = Field(
        default="none",
        description="pooler between the service and PostgreSQL: none, or its mode, session or transaction",
    )
    database_prepared_statements: bool = Field(
        default=True,
        description="whether PostgreSQL keeps prepared statements; false behind a pooler that loses them",
    )
    database_wait_seconds: float = Field(
        default=60,
        ge=0,
        description="seconds to wait at start for a PostgreSQL that does not answer yet; inf waits for ever",
    )
    database_seconds: Seconds = Field(
        default=5, description="seconds that a piece of work may take in PostgreSQL, with waiting and trying again"
    )
    database_statement_seconds: Seconds = Field(
        default=2,
        validate_default=True,
        description="seconds that a statement may take (PostgreSQL's statement_timeout)",
    )
    database_lock_seconds: Seconds = Field(
        default=1,
        validate_default=True,
        description="seconds that a statement may wait for a lock (PostgreSQL's lock_timeout)",
    )

    @property
    def limits(self) -> Limits:
        """What the database gets of them."""
        return Limits(
            pool_size=self.database_pool_size,
            queue_size=self.database_queue_size,
            seconds=self.database_seconds,
            statement_seconds=self.database_statement_seconds,
            lock_seconds=self.database_lock_seconds,
            pooler=self.database_pooler,
            prepared_statements=self.database_prepared_statements,
        )

    @field_validator(*LONGER)
    @classmethod
    def _is_within_the_longer_one(cls, seconds: float, given: ValidationInfo) -> float:
        assert given.field_name is not None
        longer = LONGER[given.field_name]
        most = given.data.get(longer)  # None where it is itself wrong
        if most is not None and seconds > most:
            raise ValueError(f"{seconds:g} is more than {cls.variable(longer)}, which is {most:g}")
        return seconds
