"""What PostgreSQL and asyncpg say when something went wrong, by what is to be done about it."""

from __future__ import annotations

import ssl

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
    asyncpg.TargetServerAttributeNotMatched,  # the same, where the URL asks for one that can be written to
)
"""A server that is starting, stopping, gone or not the right one, or a name that DNS does not know yet."""

BROKEN_CONNECTION = (asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg says of a connection that the server has just closed: which of the two depends on how much of the
server's farewell it has read."""

CANNOT_CONNECT = (asyncpg.PostgresError, asyncpg.ClientConfigurationError)
"""What is raised, beside UNREACHABLE, where a connection is opened."""

ROLLED_BACK = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
"""Nothing was changed, and the same may well succeed now."""

NOT_RETRIED = (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError, asyncpg.InsufficientResourcesError)
"""It took too long, waited too long for a lock, or the disk is full: the same would most likely fail again."""

STATEMENT_LOST = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
"""A prepared statement is not where it was prepared: another client's server answers, by a pooler."""

OF_ANY_STATEMENT = (*ROLLED_BACK, *NOT_RETRIED, *UNREACHABLE, *BROKEN_CONNECTION, *STATEMENT_LOST)
"""What may happen to a statement whatever it says. All else is about what it says."""

X509_EXPIRED, X509_OTHER_HOST, X509_OTHER_ADDRESS = 10, 62, 64
"""https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/"""


def sqlstate(error: BaseException) -> str:
    """What metrics call it: PostgreSQL's code, `timeout` or `connection`."""
    if isinstance(error, TimeoutError):
        return "timeout"
    return getattr(error, "sqlstate", None) or "connection"


def reason(error: BaseException) -> str:
    """What to print of it, in one line: asyncpg puts DETAIL and HINT on lines of their own."""
    lines = str(error).splitlines() or [type(error).__name__]
    return ". ".join(line.strip().rstrip(".") for line in lines if line.strip())


def is_lasting(error: BaseException) -> bool:
    """Of an error that kept a connection from being opened: whether waiting does not mend it."""
    if _is_about_tls(error):
        return True
    if isinstance(error, asyncpg.ProtocolViolationError):  # all that PgBouncer says itself has this code
        return _is_start_up_parameter(error) or "no such database" in str(error)
    return not isinstance(error, UNREACHABLE)


def next_step(error: BaseException, setting: str) -> str:
    """What to do about an error that kept a connection from being opened. setting: the variable of the URL."""
    match error:
        case ssl.SSLCertVerificationError(verify_code=code):
            if code in (X509_OTHER_HOST, X509_OTHER_ADDRESS):
                return f"Name the host in {setting} as its certificate does, or give it a certificate for this one."
            if code == X509_EXPIRED:
                return "Renew the server's certificate; if it is new, the clock of this machine is wrong."
            return f"sslrootcert in {setting} has to name the file of the CA that signed the server's certificate."
        case _ if _is_about_tls(error):
            return f"Switch TLS on in the server, or, if its network is safe, take sslmode=prefer in {setting}."
        case asyncpg.ClientConfigurationError():
            return f"sslrootcert in {setting} has to name the file of the CA, or system."
        case asyncpg.InvalidPasswordError():
            return f"Check user and password in {setting}."
        case asyncpg.InvalidAuthorizationSpecificationError():
            return (
                "The server's pg_hba.conf says which user may connect to which database, from where, with TLS or "
                "without, and how; the role needs LOGIN. Mend it there, or user, sslmode, sslcert and sslkey in "
                f"{setting}."
            )
        case asyncpg.InvalidCatalogNameError():
            return f"Create it, or name the right one in {setting}."
        case asyncpg.InsufficientPrivilegeError():
            return f"As its owner: GRANT CONNECT ON DATABASE ... TO the user in {setting}."
        case asyncpg.TooManyConnectionsError():
            return (
                "All pods together must have fewer connections than the server, the database and the role allow: make "
                f"{setting.removesuffix('URL')}POOL_SIZE smaller, or the server's max_connections larger."
            )
        case asyncpg.TargetServerAttributeNotMatched() | asyncpg.ReadOnlySQLTransactionError():
            return f"Is there a primary, and does {setting} name all hosts, with target_session_attrs=read-write?"
        case _ if _is_start_up_parameter(error):
            return (
                f"That is a pooler: set {setting.removesuffix('URL')}POOLER to its mode, session or transaction "
                "(PgBouncer's pool_mode)."
            )
        case _ if is_lasting(error):
            return f"Mend it in {setting} or in the server."
        case _:
            return f"Is it running, and does {setting} name the right host and port?"


def _is_about_tls(error: BaseException) -> bool:
    """A certificate that is refused by one of the two, or asyncpg's words for a server without TLS."""
    return isinstance(error, ssl.SSLCertVerificationError) or (
        isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error)
    )


def _is_start_up_parameter(error: BaseException) -> bool:
    return isinstance(error, asyncpg.ProtocolViolationError) and "startup parameter" in str(error)
