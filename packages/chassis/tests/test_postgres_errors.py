"""How errors of PostgreSQL, asyncpg and TLS are classified and explained; without a server."""

from __future__ import annotations

import re
import ssl

import asyncpg
import pytest

from chassis.postgres.errors import is_permanent, next_step, reason, sqlstate


def certificate_error(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (certificate_error(62), "Use the host name of the certificate in NOTES_DATABASE_URL"),
        (certificate_error(64), "Use the host name of the certificate in NOTES_DATABASE_URL"),
        (certificate_error(10), "Renew the server's certificate"),
        (certificate_error(18), "sslrootcert in NOTES_DATABASE_URL must name the file of the CA"),
        (ConnectionError("the server rejected SSL upgrade"), "Enable TLS on the server .* in NOTES_DATABASE_URL"),
        (asyncpg.ClientConfigurationError("no root.crt"), "sslrootcert in NOTES_DATABASE_URL .* the CA's file"),
        (asyncpg.InvalidPasswordError("wrong"), "Check user and password in NOTES_DATABASE_URL"),
        (asyncpg.InvalidAuthorizationSpecificationError("no entry"), "pg_hba.conf .* sslkey in NOTES_DATABASE_URL"),
        (asyncpg.InvalidCatalogNameError("no database"), "Create it, or fix its name in NOTES_DATABASE_URL"),
        (asyncpg.InsufficientPrivilegeError("denied"), "GRANT CONNECT .* in NOTES_DATABASE_URL"),
        (asyncpg.ProtocolViolationError("unsupported startup parameter: x"), "set NOTES_DATABASE_POOLER to its mode"),
        (asyncpg.ProtocolViolationError("no such database: x"), "Fix it in NOTES_DATABASE_URL or on the server"),
        (asyncpg.UndefinedObjectError("no such setting"), "Fix it in NOTES_DATABASE_URL or on the server"),
    ],
)
def test_an_error_that_retrying_cannot_fix_is_permanent(error: Exception, step: str) -> None:
    assert is_permanent(error)
    assert re.search(step, next_step(error, "NOTES_DATABASE_URL"))


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (ConnectionRefusedError(111, "Connect call failed"), "Is it running"),
        (OSError("Temporary failure in name resolution"), "Is it running"),
        (ssl.SSLError(1, "wrong version number"), "Is it running"),
        (TimeoutError(), "Is it running, .* NOTES_DATABASE_URL name the right host"),
        (asyncpg.CannotConnectNowError("starting up"), "Is it running"),
        (asyncpg.ProtocolViolationError("the pooler is shutting down"), "Is it running"),
        (asyncpg.TooManyConnectionsError("53300"), "lower NOTES_DATABASE_POOL_SIZE, or raise .* max_connections"),
        (asyncpg.TargetServerAttributeNotMatched("none"), "Is there a primary, .* NOTES_DATABASE_URL name all hosts"),
        (asyncpg.ReadOnlySQLTransactionError("standby"), "Is there a primary, .* NOTES_DATABASE_URL name all hosts"),
    ],
)
def test_an_error_that_may_pass_is_not_permanent(error: Exception, step: str) -> None:
    assert not is_permanent(error)
    assert re.search(step, next_step(error, "NOTES_DATABASE_URL"))


@pytest.mark.parametrize(
    ("error", "label"),
    [
        (asyncpg.DeadlockDetectedError("a deadlock"), "40P01"),
        (asyncpg.InterfaceError("closed"), "connection"),
        (asyncpg.PostgresError("without a code"), "connection"),
        (ConnectionResetError(), "connection"),
        (TimeoutError(), "timeout"),
    ],
)
def test_a_retry_is_labelled_with_the_code_of_its_error(error: Exception, label: str) -> None:
    assert sqlstate(error) == label


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            Exception("No such role.\nDETAIL:  It was dropped.\n \nHINT:  Create it."),
            "No such role. DETAIL:  It was dropped. HINT:  Create it",
        ),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_the_reason_of_an_error_is_one_line(error: Exception, line: str) -> None:
    assert reason(error) == line
