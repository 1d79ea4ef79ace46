"""A million tasks: what /health costs there, and whether a page costs more the later it comes."""

from __future__ import annotations

import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import database
from bench.machine import ADDRESS, SERVICE_PATH, SERVICE_PYTHON, CannotMeasure, free_port, serving

FEW, MANY = 10, 1_000_000
STEP = 100_000
PAGE = 40
WARM_UP, PAIRS = 6, 20
"""PostgreSQL plans a prepared statement anew for its first five executions. Then it keeps the plan of a list without
filters; one with filters it plans each time, and that is in its times."""
LISTS = {
    "newest first": "",
    "sort=due": "sort=due",
    "sort=title": "sort=title",
    "sort=-priority": "sort=-priority",
    "sort=position": "sort=position",
    "sort=-updated_at": "sort=-updated_at",
    "project=project7": "project=project7",
    "status=todo&priority=high": "status=todo&priority=high",
    "label=label7, sort=due": "label=label7&sort=due",
    "q=word7": "q=word7",
    "q=plants (all of them)": "q=plants",
    "sort=-priority,due": "sort=-priority,due",
}


def measure(say: Callable[[str], None]) -> dict[str, object]:
    """Times are those of the client, one request after the other: medians, in ms."""
    with database.running() as db, tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = {"TASKS_DATABASE_URL": db.url, "PYTHONPATH": SERVICE_PATH}
        command = (SERVICE_PYTHON, "-m", "task_api", "serve", "--port", str(port))
        with serving(*command, port=port, log=Path(folder) / "log", **environment) as server:
            server.wait_until_ready()
            db.fill(1, FEW)
            few = _health(port)
            for first in range(FEW + 1, MANY, STEP):
                db.fill(first, min(first + STEP - 1, MANY))
            say(f"{MANY} tasks are there")
            many = _health(port)
            say(f"/health: {few:.1f} ms with {FEW} tasks, {many:.1f} ms with {MANY}")
            pages = {}
            for name, query in LISTS.items():
                pages[name] = _pages(port, query)
                say(f"{name}: first page {pages[name]['first']:.1f} ms, {PAGE}th {pages[name]['last']:.1f} ms")
    return {"health_few_ms": few, "health_many_ms": many, "pages": pages}


def _health(port: int) -> float:
    """What /health takes when it counts the tasks, which it does every five seconds."""
    times = []
    for _ in range(5):
        time.sleep(5.1)
        times.append(_ask(port, "/health")[0])
    return statistics.median(times)


def _pages(port: int, query: str) -> dict[str, float]:
    """The first page and a late one, asked for in turns. The worst is not hidden: it is the first answer of all."""
    path = f"/v1/tasks?{query}"
    slowest, _ = _ask(port, path)
    following = path
    for _ in range(PAGE - 1):
        _, body = _ask(port, following)
        cursor = json.loads(body)["next_cursor"]
        if cursor is None:
            break
        following = f"{path}&cursor={cursor}"
    for _ in range(WARM_UP):
        _ask(port, path), _ask(port, following)
    times = [(_ask(port, path)[0], _ask(port, following)[0]) for _ in range(PAIRS)]
    first, last = (statistics.median(column) for column in zip(*times, strict=True))
    return {"slowest": slowest, "first": first, "last": last}


def _ask(port: int, path: str) -> tuple[float, bytes]:
    start = time.perf_counter()
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    if response.status != 200:
        raise CannotMeasure(f"{path} was answered {response.status}: {body[:300]!r}")
    return (time.perf_counter() - start) * 1000, body
