"""What PostgreSQL and asyncpg say when something went wrong, by what is to be done about it."""

from __future__ import annotations

import asyncpg

UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,  # a former primary, after a failover
)
"""A server that is starting, stopping, gone or not the right one, or a name that DNS does not know yet."""

BROKEN_CONNECTION = (asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg says of a connection that the server has just closed: which of the two depends on how much of the
server's farewell it has read."""

ROLLED_BACK = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
"""Nothing was changed, and the same may well succeed now."""

REFUSED = (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError, asyncpg.InsufficientResourcesError)
"""It took too long, waited too long for a lock, or the disk is full: the same would most likely fail again."""


def sqlstate(error: BaseException) -> str:
    """What metrics call it: PostgreSQL's code, `timeout` or `connection`."""
    if isinstance(error, TimeoutError):
        return "timeout"
    return getattr(error, "sqlstate", None) or "connection"


def reason(error: BaseException) -> str:
    """What to print of it."""
    return str(error) or type(error).__name__
