#!/usr/bin/env bash
# Guess: asyncpg parses a URL as libpq does. It rejects or ignores libpq parameters that it does not support, such as `connect_timeout` or
# `load_balance_hosts`, and a `+` in a value is a plus.
# What happens: it sends every unknown parameter to the server as a session setting, and PostgreSQL rejects the connection, because it has
# no setting `connect_timeout`. A `+` becomes a space. psycopg, which leaves parsing to libpq, sends only the name, with its plus.
# Packages: asyncpg 0.32.0, psycopg 3.3.9 with psycopg-binary 3.3.9
# Source: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check asyncpg==0.32.0 psycopg==3.3.9 psycopg-binary==3.3.9

# No PostgreSQL is needed: the server reads the first message of each client and responds with an error.
v/bin/python << 'PYTHON'
import asyncio
import contextlib
import struct
import sys

import asyncpg
import psycopg


async def main():
    sent = []

    async def refuse(reader, writer):
        size = struct.unpack("!i", await reader.readexactly(4))[0]
        words = (await reader.readexactly(size - 4))[4:].decode().split("\0")
        sent.append(dict(zip(words[::2], words[1::2])))
        error = b"SFATAL\0C28000\0Mrefused\0\0"
        writer.write(b"E" + struct.pack("!i", len(error) + 4) + error)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"postgresql://127.0.0.1:{port}/tasks?user=ada&password=secret&sslmode=disable"
    url += "&application_name=a+b&connect_timeout=5&load_balance_hosts=disable"
    with contextlib.suppress(asyncpg.PostgresError):
        await asyncpg.connect(url)
    with contextlib.suppress(psycopg.OperationalError):
        await psycopg.AsyncConnection.connect(url)
    server.close()
    return sent


actual = {}
for library, sent in zip(("asyncpg", "psycopg"), asyncio.run(main())):
    actual[library] = {name: sent.get(name) for name in ("application_name", "connect_timeout", "load_balance_hosts")}
    print(library, actual[library])
if list(actual["asyncpg"].values()) != ["a b", "5", "disable"]:
    sys.exit("Changed: expected asyncpg to send all three, with a space")
if list(actual["psycopg"].values()) != ["a+b", None, None]:
    sys.exit("Changed: expected psycopg to send only the name, with a plus")
PYTHON
