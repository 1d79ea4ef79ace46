"""Checks of the PostgreSQL server, database and role behind the service's promises: at startup, then by /health.

docs/operate.md lists them for operators, docs/decisions.md has the reasons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from chassis.postgres.pool import IDLE_SECONDS

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]
    State = asyncpg.Record | dict[str, Any]

Action = Literal["wait", "refuse", "degrade", "warn"]
"""`wait`: as for a server that is not available yet, and refuse once that takes too long. `refuse`: the service does
not start. `degrade`: a warning in the log, and /health is degraded. `warn`: a warning in the log. When found later, the
first three degrade /health."""

OLDEST_VERSION = 14


class Requirements(Protocol):
    """The service's Limits."""

    @property
    def pool_size(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def statement_seconds(self) -> float: ...
    @property
    def lock_seconds(self) -> float: ...


@dataclass(frozen=True)
class Rule:
    """message: what is wrong, its consequence, and the fix; `{name}` is the value of that column of STATE."""

    action: Action
    is_violated: Callable[[State, Requirements], bool]
    message: str


@dataclass(frozen=True)
class Finding:
    action: Action
    message: str


# As the connection has it: role, database and server can each set the same parameter, and a pooler may drop those that
# the client sent. current_setting(..., true) is null if this version lacks the parameter.
STATE = """
    SELECT quote_ident(session_user) AS role, current_database()::text AS database, current_schema()::text AS schema,
           pg_is_in_recovery() AS is_standby,
           current_setting('server_version_num')::integer / 10000 AS version,
           current_setting('server_version') AS full_version,
           current_setting('server_encoding') AS encoding,
           current_setting('search_path') AS search_path,
           current_setting('transaction_read_only') AS read_only,
           current_setting('session_replication_role', true) AS replication_role,
           current_setting('synchronous_commit') AS commit,
           current_setting('synchronous_standby_names') AS standbys,
           current_setting('fsync') AS fsync,
           current_setting('full_page_writes') AS full_page_writes,
           current_setting('zero_damaged_pages') AS zero_damaged_pages,
           current_setting('track_activities') AS track_activities,
           extract(epoch FROM current_setting('statement_timeout')::interval)::float8 AS statement_timeout,
           extract(epoch FROM current_setting('lock_timeout')::interval)::float8 AS lock_timeout,
           extract(epoch FROM current_setting('idle_in_transaction_session_timeout')::interval)::float8
               AS idle_in_transaction_session_timeout,
           extract(epoch FROM current_setting('transaction_timeout', true)::interval)::float8 AS transaction_timeout,
           extract(epoch FROM current_setting('idle_session_timeout', true)::interval)::float8 AS idle_session_timeout,
           (SELECT min(slots) FROM (VALUES
               (current_setting('max_connections')::integer
                - current_setting('superuser_reserved_connections')::integer),
               ((SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user AND NOT rolsuper)),
               ((SELECT datconnlimit FROM pg_database WHERE datname = current_database()))
           ) AS limits (slots) WHERE slots >= 0) AS slots
"""


def _too_short(name: str, minimum: Callable[[Requirements], float]) -> Callable[[State, Requirements], bool]:
    """Whether the server's timeout fires before the service's. 0 is no timeout."""
    return lambda state, required: state[name] is not None and 0 < state[name] < minimum(required)


def _missing(name: str) -> Callable[[State, Requirements], bool]:
    return lambda state, _: state[name] == 0


RULES = (
    Rule(
        "wait",
        lambda state, _: state["is_standby"],
        "this is a standby, which is read-only. Name the primary in {setting}, or all servers of the cluster with "
        "target_session_attrs=read-write",
    ),
    Rule(
        "wait",
        lambda state, _: state["read_only"] == "on" and not state["is_standby"],
        "transactions of role {role} in database {database} are read-only. Some providers set that while a disk is "
        "full: free up space. Otherwise find where it is set, SELECT * FROM pg_db_role_setting and SHOW "
        "default_transaction_read_only, and reset it: ALTER ROLE {role} RESET default_transaction_read_only, or the "
        "same with ALTER DATABASE or ALTER SYSTEM",
    ),
    Rule(
        "refuse",
        lambda state, _: state["version"] < OLDEST_VERSION,
        f"PostgreSQL {{full_version}} is not supported: upgrade to {OLDEST_VERSION} or later",
    ),
    Rule(
        "refuse",
        lambda state, _: state["encoding"] != "UTF8",
        "database {database} has the encoding {encoding}, which lacks most characters. Create another, CREATE DATABASE "
        "... ENCODING 'UTF8' TEMPLATE template0, and name it in {setting}",
    ),
    Rule(
        "refuse",
        lambda state, _: state["schema"] is None,
        "role {role} has no privileges on any schema of its search_path, {search_path}. For the schema of the tables, "
        "existing or not: GRANT USAGE ON SCHEMA ... TO {role}, or ALTER ROLE {role} SET search_path = ...",
    ),
    Rule(
        "refuse",
        lambda state, _: state["replication_role"] not in {None, "origin"},
        "session_replication_role is {replication_role}, which disables triggers and foreign keys: "
        "ALTER ROLE {role} RESET session_replication_role, or the same with ALTER DATABASE or ALTER SYSTEM",
    ),
    Rule(
        "degrade",
        lambda state, _: state["commit"] == "off",
        "synchronous_commit is off, so a server crash loses acknowledged writes: "
        "ALTER ROLE {role} RESET synchronous_commit, or the same with ALTER DATABASE or ALTER SYSTEM",
    ),
    Rule(
        "degrade",
        lambda state, _: state["commit"] == "local" and state["standbys"] != "",
        "synchronous_commit is local, so a failover loses acknowledged writes although there are synchronous standbys: "
        "ALTER ROLE {role} RESET synchronous_commit, or the same with ALTER DATABASE or ALTER SYSTEM",
    ),
    Rule(
        "degrade",
        lambda state, _: state["fsync"] == "off",
        "fsync is off, so a crash of the server's machine loses acknowledged writes, or all data: ALTER SYSTEM RESET "
        "fsync, remove it from postgresql.conf and from the command line, and reload",
    ),
    Rule(
        "warn",
        lambda state, _: state["commit"] == "remote_write" and state["standbys"] != "",
        "synchronous_commit is remote_write: a write is acknowledged once it is in a standby's memory, and is lost if "
        "the primary is lost and the standby's machine crashes at the same time. With on, it would be on disk",
    ),
    Rule(
        "warn",
        lambda state, _: state["full_page_writes"] == "off",
        "full_page_writes is off. Unless the file system writes pages atomically (ZFS), a crash may corrupt data: "
        "ALTER SYSTEM RESET full_page_writes, and reload",
    ),
    Rule(
        "warn",
        lambda state, _: state["zero_damaged_pages"] == "on",
        "zero_damaged_pages is on: damaged pages are silently zeroed. It is only for recovery: reset it afterwards",
    ),
    Rule(
        "warn",
        lambda state, _: state["track_activities"] == "off",
        "track_activities is off, so commits that wait for a lost standby are not detected, and may exhaust "
        "max_connections: ALTER SYSTEM RESET track_activities, and reload",
    ),
    Rule(
        "warn",
        lambda state, required: state["slots"] is not None and state["slots"] < required.pool_size,
        "role {role} may open {slots} connections (max_connections, the limit of the role or of the database), and "
        "this pod alone opens up to {pool_size}: ALTER ROLE {role} CONNECTION LIMIT -1, or a smaller pool",
    ),
    Rule(
        "warn",
        _too_short("statement_timeout", lambda required: required.statement_seconds),
        "statement_timeout is {statement_timeout:g} s, and statements may take {statement_seconds:g} s: "
        "ALTER ROLE {role} SET statement_timeout = '{statement_seconds:g}s'",
    ),
    Rule(
        "warn",
        _missing("statement_timeout"),
        "statement_timeout is not set, because a pooler drops the service's value. Statements that time out in the "
        "service keep running in PostgreSQL: ALTER ROLE {role} SET statement_timeout = '{statement_seconds:g}s'",
    ),
    Rule(
        "warn",
        _too_short("lock_timeout", lambda required: required.lock_seconds),
        "lock_timeout is {lock_timeout:g} s, and waiting for a lock may take {lock_seconds:g} s: "
        "ALTER ROLE {role} SET lock_timeout = '{lock_seconds:g}s'",
    ),
    Rule(
        "warn",
        _missing("lock_timeout"),
        "lock_timeout is not set, because a pooler drops the service's value. Waiting for a lock occupies a connection "
        "until the statement ends: ALTER ROLE {role} SET lock_timeout = '{lock_seconds:g}s'",
    ),
    Rule(
        "warn",
        _too_short("idle_in_transaction_session_timeout", lambda required: required.seconds),
        "idle_in_transaction_session_timeout is {idle_in_transaction_session_timeout:g} s, and a transaction may take "
        "{seconds:g} s: ALTER ROLE {role} SET idle_in_transaction_session_timeout = '{seconds:g}s'",
    ),
    Rule(
        "warn",
        _missing("idle_in_transaction_session_timeout"),
        "idle_in_transaction_session_timeout is not set, because a pooler drops the service's value. A lost pod leaves "
        "its locks behind: ALTER ROLE {role} SET idle_in_transaction_session_timeout = '{seconds:g}s'",
    ),
    Rule(
        "warn",
        _too_short("transaction_timeout", lambda required: required.seconds),
        "transaction_timeout is {transaction_timeout:g} s, and a transaction may take {seconds:g} s: "
        "ALTER ROLE {role} SET transaction_timeout = 0",
    ),
    Rule(
        "warn",
        _too_short("idle_session_timeout", lambda _: IDLE_SECONDS),
        "idle_session_timeout is {idle_session_timeout:g} s, so PostgreSQL closes connections that the service keeps "
        f"for {IDLE_SECONDS:g} s, and requests wait for new ones: ALTER ROLE {{role}} SET idle_session_timeout = 0",
    ),
)

# The service's tables are in the schema of schema_migrations, and have its owner. Objects of extensions are not
# included; the sequence of an identity column needs no privileges, nor does a partition, which is accessed through its
# table.
MISSING_PRIVILEGES = """
    SELECT relkind = 'S' AS is_sequence, oid::regclass::text AS name, missing FROM (
        SELECT c.oid, c.relkind, ARRAY(
                   SELECT privilege FROM unnest(
                       CASE WHEN c.relkind = 'S' THEN ARRAY['USAGE']
                            WHEN c.oid = migrations.oid THEN ARRAY['SELECT']
                            ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END
                   ) WITH ORDINALITY AS privileges (privilege, ord)
                    WHERE NOT CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, privilege)
                                             ELSE has_table_privilege(c.oid, privilege) END
                    ORDER BY ord
               ) AS missing
          FROM pg_class AS migrations JOIN pg_class AS c USING (relnamespace, relowner)
         WHERE migrations.oid = to_regclass('schema_migrations')
           AND c.relkind IN ('r', 'p', 'S') AND NOT c.relispartition
           AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid
                              AND deptype = ANY (CASE c.relkind WHEN 'S' THEN '{e,i}' ELSE '{e}' END::"char"[]))
    ) AS tables WHERE missing <> '{}' ORDER BY name
"""


async def check_server(db: Connection, required: Requirements, *, setting: str) -> list[Finding]:
    """Problems with the server, the database and the role of a connection. setting: the variable of its URL."""
    state = await db.fetchrow(STATE)
    assert state is not None
    return apply_rules(state, required, setting=setting)


def apply_rules(state: State, required: Requirements, *, setting: str) -> list[Finding]:
    """The rules that a result of STATE violates."""
    names = {
        **dict(state),
        "setting": setting,
        "pool_size": required.pool_size,
        "seconds": required.seconds,
        "statement_seconds": required.statement_seconds,
        "lock_seconds": required.lock_seconds,
    }
    return [Finding(rule.action, rule.message.format(**names)) for rule in RULES if rule.is_violated(state, required)]


async def missing_privileges(db: Connection) -> str:
    """Which privileges on its tables the role of a connection lacks, and the statements that grant them; else empty."""
    by_grant: dict[str, list[str]] = {}
    for row in await db.fetch(MISSING_PRIVILEGES):
        grant = f"GRANT {', '.join(row['missing'])} ON {'SEQUENCE ' if row['is_sequence'] else ''}"
        by_grant.setdefault(grant, []).append(row["name"])
    if not by_grant:
        return ""
    role = await db.fetchval("SELECT quote_ident(session_user)")
    grants = "; ".join(f"{grant}{', '.join(names)} TO {role}" for grant, names in by_grant.items())
    return f"role {role} lacks privileges on the tables. As their owner: {grants}"
