"""Rung 2: asyncpg alone. As many tasks as there are connections, each asks again as soon as it is answered.

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

GIVEN = json.loads(os.environ["BENCH_GIVEN"])


def values(kind: str) -> tuple[object, ...]:
    """What stands behind the statement's placeholders."""
    if kind == "list":
        return ()
    if kind == "get":
        return (GIVEN["id"] % random.randint(1, GIVEN["rows"]),)
    now = datetime.now(UTC)
    nothing = (None,) * 3
    task = (uuid7(), "Water the plants", None, "todo", 3, *nothing, ["home"], *nothing, 0, *nothing, 0.0, "{}")
    return (*task, now, now, None, None, 1, None, ["water", "the", "plants"], "created", GIVEN["bodies"]["post"])


async def main(kind: str, seconds: float) -> None:
    """Asks for so long, and prints how often it was answered."""
    size = int(os.environ["BENCH_POOL"])
    connections = [await asyncpg.connect(os.environ["BENCH_DATABASE_URL"]) for _ in range(size)]
    for connection in connections:  # prepared before the clock starts
        await connection.fetch(GIVEN[kind], *values(kind))
    start, cpu = time.perf_counter(), time.process_time()

    async def ask(connection: asyncpg.Connection) -> int:
        count = 0
        while time.perf_counter() - start < seconds:
            await connection.fetch(GIVEN[kind], *values(kind))
            count += 1
        return count

    requests = sum(await asyncio.gather(*map(ask, connections)))
    took, used = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({"requests": requests, "seconds": took, "cpu_seconds": used}))
    for connection in connections:
        await connection.close()


uvloop.run(main(sys.argv[1], float(sys.argv[2])))
