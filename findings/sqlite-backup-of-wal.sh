#!/usr/bin/env bash
# Guess: the copy made by SQLite's backup API is a single self-contained file, which a program can read from any directory; as a copy it
# has the settings of a new database, like one made by VACUUM INTO.
# What happens: the copy of a database in WAL mode is in WAL mode. Even a reader creates two files next to it, and in a read-only
# directory it cannot be read without `immutable=1`. The copy made by VACUUM INTO has no WAL.
# Packages: Python's sqlite3 (SQLite 3.40 and later), aiosqlite 0.22.1
# Source: https://sqlite.org/wal.html#read_only_databases
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check aiosqlite==0.22.1

v/bin/python << 'PYTHON'
import asyncio
import os
import sys

import aiosqlite


async def created_files(copy):
    """The files that a reader creates next to the copy."""
    async with aiosqlite.connect(copy) as db:
        await db.execute_fetchall("SELECT * FROM t")
        return sorted(set(os.listdir(".")) & {f"{copy}-wal", f"{copy}-shm"})


async def main():
    async with aiosqlite.connect("its.db") as db, aiosqlite.connect("backup.db") as copy:
        await db.execute("PRAGMA journal_mode=WAL")
        await db.execute("CREATE TABLE t (x)")
        await db.commit()
        await db.backup(copy)
        await db.execute("VACUUM INTO 'vacuum.db'")
    return await created_files("backup.db"), await created_files("vacuum.db")


actual = asyncio.run(main())
print("Next to the copy by backup:", *actual[0])
print("Next to the copy by VACUUM INTO:", *actual[1])
if actual != (["backup.db-shm", "backup.db-wal"], []):
    sys.exit("Changed: expected two files and none")
PYTHON
