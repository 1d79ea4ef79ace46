"""Errors of PostgreSQL and asyncpg, classified by how to handle them."""

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
    asyncpg.TargetServerAttributeNotMatched,  # the same, where the URL requires a read-write server
)
"""The server is starting, stopping, down or not the primary, or DNS does not resolve its name yet."""

BROKEN_CONNECTION = (asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises on a connection that the server has just closed: which of the two depends on how much of the
server's last message it has read."""

CONNECT_ERRORS = (asyncpg.PostgresError, asyncpg.ClientConfigurationError)
"""What connecting raises, besides UNREACHABLE."""

RETRYABLE = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
"""The transaction was rolled back, and a retry may well succeed."""

NOT_RETRYABLE = (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError, asyncpg.InsufficientResourcesError)
"""Statement timeout, lock timeout, or disk full: a retry would most likely fail, too."""

PREPARED_STATEMENT_LOST = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
"""A prepared statement is not where it was prepared: a pooler has assigned another client's server connection."""

NOT_CAUSED_BY_STATEMENT = (*RETRYABLE, *NOT_RETRYABLE, *UNREACHABLE, *BROKEN_CONNECTION, *PREPARED_STATEMENT_LOST)
"""Errors that any statement may get. All others are caused by its text or its arguments."""

X509_EXPIRED, X509_OTHER_HOST, X509_OTHER_ADDRESS = 10, 62, 64
"""https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/"""


def sqlstate(error: BaseException) -> str:
    """Its label in metrics: PostgreSQL's code, `timeout` or `connection`."""
    if isinstance(error, TimeoutError):
        return "timeout"
    return getattr(error, "sqlstate", None) or "connection"


def reason(error: BaseException) -> str:
    """Its message on one line: asyncpg puts DETAIL and HINT on separate lines."""
    lines = str(error).splitlines() or [type(error).__name__]
    return ". ".join(line.strip().rstrip(".") for line in lines if line.strip())


def is_permanent(error: BaseException) -> bool:
    """Whether retrying cannot fix an error raised by connecting."""
    if _is_about_tls(error):
        return True
    if isinstance(error, asyncpg.ProtocolViolationError):  # the code of all errors that PgBouncer itself reports
        return _is_startup_parameter(error) or "no such database" in str(error)
    return not isinstance(error, UNREACHABLE)


def next_step(error: BaseException, setting: str) -> str:
    """How to fix an error raised by connecting. setting: the variable of the URL."""
    match error:
        case ssl.SSLCertVerificationError(verify_code=code):
            if code in (X509_OTHER_HOST, X509_OTHER_ADDRESS):
                return f"Use the host name of the certificate in {setting}, or issue a certificate for this host."
            if code == X509_EXPIRED:
                return "Renew the server's certificate; if it is new, this machine's clock is wrong."
            return f"sslrootcert in {setting} must name the file of the CA that signed the server's certificate."
        case _ if _is_about_tls(error):
            return f"Enable TLS on the server or, if its network is trusted, set sslmode=prefer in {setting}."
        case asyncpg.ClientConfigurationError():
            return f"sslrootcert in {setting} must be the CA's file, or system."
        case asyncpg.InvalidPasswordError():
            return f"Check user and password in {setting}."
        case asyncpg.InvalidAuthorizationSpecificationError():
            return (
                "The server's pg_hba.conf controls which user may connect to which database, from which address, with "
                "or without TLS, and by which authentication method; the role needs LOGIN. Fix it there, or fix user, "
                f"sslmode, sslcert and sslkey in {setting}."
            )
        case asyncpg.InvalidCatalogNameError():
            return f"Create it, or fix its name in {setting}."
        case asyncpg.InsufficientPrivilegeError():
            return f"As its owner: GRANT CONNECT ON DATABASE ... TO the user in {setting}."
        case asyncpg.TooManyConnectionsError():
            return (
                "All pods together must open fewer connections than the server, the database and the role allow: "
                f"lower {setting.removesuffix('URL')}POOL_SIZE, or raise the server's max_connections."
            )
        case asyncpg.TargetServerAttributeNotMatched() | asyncpg.ReadOnlySQLTransactionError():
            return f"Is there a primary, and does {setting} name all hosts, with target_session_attrs=read-write?"
        case _ if _is_startup_parameter(error):
            return (
                f"This is a pooler: set {setting.removesuffix('URL')}POOLER to its mode, session or transaction "
                "(PgBouncer's pool_mode)."
            )
        case _ if is_permanent(error):
            return f"Fix it in {setting} or on the server."
        case _:
            return f"Is it running, and does {setting} name the right host and port?"


def _is_about_tls(error: BaseException) -> bool:
    """A certificate that either side rejects, or asyncpg's message for a server without TLS."""
    return isinstance(error, ssl.SSLCertVerificationError) or (
        isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error)
    )


def _is_startup_parameter(error: BaseException) -> bool:
    return isinstance(error, asyncpg.ProtocolViolationError) and "startup parameter" in str(error)
