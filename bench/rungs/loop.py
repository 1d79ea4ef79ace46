"""Rung 2: asyncpg without HTTP. One task per connection, each repeats the query in a loop.

python loop.py get|post|list SECONDS        prints {"requests": ..., "seconds": ..., "cpu_seconds": ...}
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from datetime import UTC, datetime

import asyncpg
import uvloop
from uuid_utils.compat import uuid7

FIXTURE = json.loads(os.environ["BENCH_FIXTURE"])


def values(kind: str) -> tuple[object, ...]:
    """The statement's parameters."""
    if kind == "list":
        return ()
    if kind == "get":
        return (FIXTURE["id"] % random.randint(1, FIXTURE["rows"]),)
    now = datetime.now(UTC)
    nothing = (None,) * 3
    task = (uuid7(), "Water the plants", None, "todo", 3, *nothing, ["home"], *nothing, 0, *nothing, 0.0, "{}")
    return (*task, now, now, None, None, 1, None, ["water", "the", "plants"], "created", FIXTURE["bodies"]["post"])


async def main(kind: str, seconds: float) -> None:
    """Queries for the given time, and prints the number of queries."""
    size = int(os.environ["BENCH_POOL"])
    connections = [await asyncpg.connect(os.environ["BENCH_DATABASE_URL"]) for _ in range(size)]
    for connection in connections:  # prepare before the clock starts
        await connection.fetch(FIXTURE[kind], *values(kind))
    start, cpu = time.perf_counter(), time.process_time()

    async def query(connection: asyncpg.Connection) -> int:
        count = 0
        while time.perf_counter() - start < seconds:
            await connection.fetch(FIXTURE[kind], *values(kind))
            count += 1
        return count

    requests = sum(await asyncio.gather(*map(query, connections)))
    duration, cpu_used = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({"requests": requests, "seconds": duration, "cpu_seconds": cpu_used}))
    for connection in connections:
        await connection.close()


uvloop.run(main(sys.argv[1], float(sys.argv[2])))
