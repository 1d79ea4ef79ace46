"""Defaults of settings, and errors for invalid ones."""

from __future__ import annotations

from notes.service import Settings
from pydantic import SecretStr
from running import NOTES

from chassis.postgres.database import Limits

DEFAULTS: dict[str, object] = {
    "host": "127.0.0.1",
    "port": 8000,
    "database_url": SecretStr("postgresql://localhost"),
    "database_pool_size": 5,
    "database_queue_size": 100,
    "database_pooler": "none",
    "database_prepared_statements": True,
    "database_wait_seconds": 60,
    "database_seconds": 5,
    "database_statement_seconds": 2,
    "database_lock_seconds": 1,
    "head_seconds": 10,
    "body_seconds": 20,
    "body_max_bytes": 1_048_576,
    "write_seconds": 20,
    "rate_limit": None,
    "trusted_proxies": "",
    "cors_origins": "",
    "root_path": "",
    "drain_seconds": 0,
    "graceful_seconds": 3,
    "auth": "none",
    "auth_token_file": None,
    "oidc_issuer": None,
    "oidc_audience": None,
    "oidc_audience_claim": "aud",
    "oidc_subject_claim": "sub",
    "oidc_claim": "scope,scp",
    "oidc_read": None,
    "oidc_write": None,
    "oidc_read_subjects": "",
    "oidc_write_subjects": "",
    "revision": "dev",
}


def test_every_setting_has_its_default() -> None:
    assert Settings().model_dump() == DEFAULTS


def test_the_default_limits_of_the_database_equal_those_of_the_settings() -> None:
    settings = Settings()
    expected = Limits(
        pool_size=settings.database_pool_size,
        queue_size=settings.database_queue_size,
        seconds=settings.database_seconds,
        statement_seconds=settings.database_statement_seconds,
        lock_seconds=settings.database_lock_seconds,
        pooler=settings.database_pooler,
        prepared_statements=settings.database_prepared_statements,
    )
    assert Limits() == settings.limits == expected


def test_the_limits_of_the_database_are_run_time_parameters_in_milliseconds() -> None:
    assert Limits(seconds=30, statement_seconds=2.5, lock_seconds=1).session == {
        "statement_timeout": "2500",
        "lock_timeout": "1000",
        "idle_in_transaction_session_timeout": "30000",
    }


WRONG = {
    "NOTES_DATABASE_POOL_SIZE": ("0", "greater than or equal to 1"),
    "NOTES_DATABASE_QUEUE_SIZE": ("-1", "greater than or equal to 0"),
    "NOTES_DATABASE_WAIT_SECONDS": ("long", "valid number"),
    "NOTES_DATABASE_SECONDS": ("0", "greater than 0"),
    "NOTES_DATABASE_STATEMENT_SECONDS": ("301", "less than or equal to 300"),
    "NOTES_DATABASE_LOCK_SECONDS": ("nan", "less than or equal to 300"),
    "NOTES_HEAD_SECONDS": ("0", "greater than 0"),
    "NOTES_BODY_SECONDS": ("inf", "less than or equal to 300"),
    "NOTES_BODY_MAX_BYTES": ("1MB", "valid integer"),
    "NOTES_WRITE_SECONDS": ("0", "greater than 0"),
    "NOTES_RATE_LIMIT": ("100 per minute", "a number of requests, / and second, minute, hour or day"),
    "NOTES_TRUSTED_PROXIES": ("10.0.0.0/99", "addresses or networks"),
    "NOTES_OIDC_AUDIENCE_CLAIM": ('client"id', "an ASCII claim name"),
    "NOTES_OIDC_SUBJECT_CLAIM": (",", "an ASCII claim name"),
    "NOTES_DRAIN_SECONDS": ("-5", "greater than or equal to 0"),
    "NOTES_GRACEFUL_SECONDS": ("", "valid number"),
}


def test_each_invalid_setting_is_one_line_with_its_name_and_rule() -> None:
    done = NOTES.run("serve", "--port", "0", **{name: value for name, (value, _) in WRONG.items()})
    assert done.returncode == 1
    lines = dict(line.split(": ", 1) for line in done.stderr.splitlines())
    assert lines.keys() == WRONG.keys()
    for name, (_, rule) in WRONG.items():
        assert rule in lines[name], f"{name}: {lines[name]}"
