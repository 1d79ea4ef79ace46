"""What a PostgreSQL has to be for what is promised to hold: asked at the start, and by /health ever after.

docs/operate.md has the same for people, docs/decisions.md why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from chassis.postgres.pool import IDLE_SECONDS

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]
    Found = asyncpg.Record | dict[str, Any]

Decision = Literal["wait", "refuse", "degrade", "warn"]
"""`wait`: as for a server that is not there yet, and refuse once that takes too long. `refuse`: the service does not
start. `degrade`: it says so in the log and is degraded in /health. `warn`: it says so in the log. Found later, the
first three degrade it."""

OLDEST_VERSION = 14


class Needs(Protocol):
    """What the service's Limits say."""

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
    """sentence: what is wrong, why that matters, and what to do; `{name}` is what was found under that name."""

    decision: Decision
    is_wrong: Callable[[Found, Needs], bool]
    sentence: str


@dataclass(frozen=True)
class Finding:
    decision: Decision
    sentence: str


# Of the connection itself: a role, a database and a server set the same things, and a pooler may drop what was asked.
# current_setting(..., true) is null where this version has no such setting.
ASK = """
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
           (SELECT min(places) FROM (VALUES
               (current_setting('max_connections')::integer
                - current_setting('superuser_reserved_connections')::integer),
               ((SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user AND NOT rolsuper)),
               ((SELECT datconnlimit FROM pg_database WHERE datname = current_database()))
           ) AS limits (places) WHERE places >= 0) AS places
"""


def _is_short(name: str, need: Callable[[Needs], float]) -> Callable[[Found, Needs], bool]:
    """Whether the server ends something before the service gives it up. 0 is no limit."""
    return lambda found, needs: found[name] is not None and 0 < found[name] < need(needs)


def _is_missing(name: str) -> Callable[[Found, Needs], bool]:
    return lambda found, _: found[name] == 0


RULES = (
    Rule(
        "wait",
        lambda found, _: found["is_standby"],
        "this is a standby, which takes no writes. Name the primary in {setting}, or all servers of the cluster with "
        "target_session_attrs=read-write",
    ),
    Rule(
        "wait",
        lambda found, _: found["read_only"] == "on" and not found["is_standby"],
        "transactions of role {role} in database {database} are read-only. Some providers do that while a disk is "
        "full: make room. Otherwise find who set it, SELECT * FROM pg_db_role_setting and SHOW "
        "default_transaction_read_only, and take it back: ALTER ROLE {role} RESET default_transaction_read_only, or "
        "the same with ALTER DATABASE or ALTER SYSTEM",
    ),
    Rule(
        "refuse",
        lambda found, _: found["version"] < OLDEST_VERSION,
        f"it is PostgreSQL {{full_version}}, and the service needs {OLDEST_VERSION} or a newer one: upgrade it",
    ),
    Rule(
        "refuse",
        lambda found, _: found["encoding"] != "UTF8",
        "database {database} keeps text in {encoding}, which has no place for most characters. Make another, CREATE "
        "DATABASE ... ENCODING 'UTF8' TEMPLATE template0, and name it in {setting}",
    ),
    Rule(
        "refuse",
        lambda found, _: found["schema"] is None,
        "role {role} may use no schema of its search_path, {search_path}. With the schema that the tables are in or "
        "shall be in: GRANT USAGE ON SCHEMA ... TO {role}, or ALTER ROLE {role} SET search_path = ...",
    ),
    Rule(
        "refuse",
        lambda found, _: found["replication_role"] not in {None, "origin"},
        "session_replication_role is {replication_role}, so that triggers and foreign keys are not heeded: "
        "ALTER ROLE {role} RESET session_replication_role, or the same with ALTER DATABASE or ALTER SYSTEM",
    ),
    Rule(
        "degrade",
        lambda found, _: found["commit"] == "off",
        "synchronous_commit is off, so a crash of the server loses writes that were acknowledged: "
        "ALTER ROLE {role} RESET synchronous_commit, or the same with ALTER DATABASE or ALTER SYSTEM",
    ),
    Rule(
        "degrade",
        lambda found, _: found["commit"] == "local" and found["standbys"] != "",
        "synchronous_commit is local, so a failover loses writes that were acknowledged, though there are synchronous "
        "standbys: ALTER ROLE {role} RESET synchronous_commit, or the same with ALTER DATABASE or ALTER SYSTEM",
    ),
    Rule(
        "degrade",
        lambda found, _: found["fsync"] == "off",
        "fsync is off, so a crash of the server's machine loses writes that were acknowledged, or all: "
        "ALTER SYSTEM RESET fsync, take it out of postgresql.conf and of the command line, and reload",
    ),
    Rule(
        "warn",
        lambda found, _: found["commit"] == "remote_write" and found["standbys"] != "",
        "synchronous_commit is remote_write: a write is acknowledged once it is in a standby's memory, and is lost "
        "where the primary is lost and the standby's machine crashes in the same moment. With on it would be on disk",
    ),
    Rule(
        "warn",
        lambda found, _: found["full_page_writes"] == "off",
        "full_page_writes is off. Unless the file system never writes half a page (ZFS), a crash may damage the data: "
        "ALTER SYSTEM RESET full_page_writes, and reload",
    ),
    Rule(
        "warn",
        lambda found, _: found["zero_damaged_pages"] == "on",
        "zero_damaged_pages is on: damaged pages are emptied without a word. It is for a repair, so take it back after",
    ),
    Rule(
        "warn",
        lambda found, _: found["track_activities"] == "off",
        "track_activities is off, so commits that wait for a lost standby are not seen, and may use up "
        "max_connections: ALTER SYSTEM RESET track_activities, and reload",
    ),
    Rule(
        "warn",
        lambda found, needs: found["places"] is not None and found["places"] < needs.pool_size,
        "there are {places} connections for role {role} (max_connections, the limit of the role or of the database), "
        "and this pod alone opens up to {pool_size}: ALTER ROLE {role} CONNECTION LIMIT -1, or a smaller pool",
    ),
    Rule(
        "warn",
        _is_short("statement_timeout", lambda needs: needs.statement_seconds),
        "statement_timeout is {statement_timeout:g} s, and statements may take {statement_seconds:g} s: "
        "ALTER ROLE {role} SET statement_timeout = '{statement_seconds:g}s'",
    ),
    Rule(
        "warn",
        _is_missing("statement_timeout"),
        "there is no statement_timeout, since a pooler drops what the service asks for. What it gives up goes on in "
        "PostgreSQL: ALTER ROLE {role} SET statement_timeout = '{statement_seconds:g}s'",
    ),
    Rule(
        "warn",
        _is_short("lock_timeout", lambda needs: needs.lock_seconds),
        "lock_timeout is {lock_timeout:g} s, and a lock may be waited for for {lock_seconds:g} s: "
        "ALTER ROLE {role} SET lock_timeout = '{lock_seconds:g}s'",
    ),
    Rule(
        "warn",
        _is_missing("lock_timeout"),
        "there is no lock_timeout, since a pooler drops what the service asks for. Who waits for a lock holds a "
        "connection until the statement ends: ALTER ROLE {role} SET lock_timeout = '{lock_seconds:g}s'",
    ),
    Rule(
        "warn",
        _is_short("idle_in_transaction_session_timeout", lambda needs: needs.seconds),
        "idle_in_transaction_session_timeout is {idle_in_transaction_session_timeout:g} s, and a transaction may take "
        "{seconds:g} s: ALTER ROLE {role} SET idle_in_transaction_session_timeout = '{seconds:g}s'",
    ),
    Rule(
        "warn",
        _is_missing("idle_in_transaction_session_timeout"),
        "there is no idle_in_transaction_session_timeout, since a pooler drops what the service asks for. A pod that "
        "is lost leaves its locks behind: ALTER ROLE {role} SET idle_in_transaction_session_timeout = '{seconds:g}s'",
    ),
    Rule(
        "warn",
        _is_short("transaction_timeout", lambda needs: needs.seconds),
        "transaction_timeout is {transaction_timeout:g} s, and a transaction may take {seconds:g} s: "
        "ALTER ROLE {role} SET transaction_timeout = 0",
    ),
    Rule(
        "warn",
        _is_short("idle_session_timeout", lambda _: IDLE_SECONDS),
        "idle_session_timeout is {idle_session_timeout:g} s, so PostgreSQL ends connections that the service keeps for "
        f"{IDLE_SECONDS:g} s, and requests wait for new ones: ALTER ROLE {{role}} SET idle_session_timeout = 0",
    ),
)

# Where the tables are is where schema_migrations is, whose owner made them. What an extension brought is its own; the
# sequence of an identity column needs no right, nor does a partition, which is reached by its table.
RIGHTS = """
    SELECT relkind = 'S' AS is_sequence, oid::regclass::text AS name, missing FROM (
        SELECT c.oid, c.relkind, ARRAY(
                   SELECT right_ FROM unnest(
                       CASE WHEN c.relkind = 'S' THEN ARRAY['USAGE']
                            WHEN c.oid = kept.oid THEN ARRAY['SELECT']
                            ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END
                   ) WITH ORDINALITY AS rights (right_, place)
                    WHERE NOT CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, right_)
                                             ELSE has_table_privilege(c.oid, right_) END
                    ORDER BY place
               ) AS missing
          FROM pg_class AS kept JOIN pg_class AS c USING (relnamespace, relowner)
         WHERE kept.oid = to_regclass('schema_migrations') AND c.relkind IN ('r', 'p', 'S') AND NOT c.relispartition
           AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid
                              AND deptype = ANY (CASE c.relkind WHEN 'S' THEN '{e,i}' ELSE '{e}' END::"char"[]))
    ) AS tables WHERE missing <> '{}' ORDER BY name
"""


async def findings(db: Connection, needs: Needs, *, setting: str) -> list[Finding]:
    """What is wrong with the server, the database and the role of a connection. setting: where its URL comes from."""
    found = await db.fetchrow(ASK)
    assert found is not None
    return findings_in(found, needs, setting=setting)


def findings_in(found: Found, needs: Needs, *, setting: str) -> list[Finding]:
    """What is wrong with what ASK found."""
    names = {
        **dict(found),
        "setting": setting,
        "pool_size": needs.pool_size,
        "seconds": needs.seconds,
        "statement_seconds": needs.statement_seconds,
        "lock_seconds": needs.lock_seconds,
    }
    return [Finding(rule.decision, rule.sentence.format(**names)) for rule in RULES if rule.is_wrong(found, needs)]


async def missing_rights(db: Connection) -> str:
    """Which rights on its tables the role of a connection has not, and the statements that give them; else empty."""
    by_grant: dict[str, list[str]] = {}
    for row in await db.fetch(RIGHTS):
        grant = f"GRANT {', '.join(row['missing'])} ON {'SEQUENCE ' if row['is_sequence'] else ''}"
        by_grant.setdefault(grant, []).append(row["name"])
    if not by_grant:
        return ""
    role = await db.fetchval("SELECT quote_ident(session_user)")
    grants = "; ".join(f"{grant}{', '.join(names)} TO {role}" for grant, names in by_grant.items())
    return f"role {role} has not all rights on the tables. Their owner gives them by: {grants}"
