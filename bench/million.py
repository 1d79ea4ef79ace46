"""A million tasks: the duration of /health, and whether later pages are slower."""

from __future__ import annotations

import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import database
from bench.machine import ADDRESS, SERVICE_PATH, SERVICE_PYTHON, BenchmarkError, free_port, serving

FEW, MANY = 10, 1_000_000
STEP = 100_000
PAGE = 40
WARM_UP, PAIRS = 6, 20
"""PostgreSQL plans the first five executions of a prepared statement individually. Then it reuses the generic plan of a
list without filters; one with filters is planned each time, which its times include."""
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
    "q=plants (matches all)": "q=plants",
    "sort=-priority,due": "sort=-priority,due",
}


def measure(log: Callable[[str], None]) -> dict[str, object]:
    """Client-side durations of sequential requests: medians, in ms."""
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
            log(f"inserted {MANY} tasks")
            many = _health(port)
            log(f"/health: {few:.1f} ms with {FEW} tasks, {many:.1f} ms with {MANY}")
            pages = {}
            for name, query in LISTS.items():
                pages[name] = _pages(port, query)
                log(f"{name}: first page {pages[name]['first']:.1f} ms, {PAGE}th {pages[name]['last']:.1f} ms")
    return {"health_few_ms": few, "health_many_ms": many, "pages": pages}


def _health(port: int) -> float:
    """The duration of /health when it counts the tasks, which it does every five seconds."""
    times = []
    for _ in range(5):
        time.sleep(5.1)
        times.append(_get(port, "/health")[0])
    return statistics.median(times)


def _pages(port: int, query: str) -> dict[str, float]:
    """The first page and a late one, requested alternately. The slowest is reported, too: the first response of all."""
    path = f"/v1/tasks?{query}"
    slowest, _ = _get(port, path)
    following = path
    for _ in range(PAGE - 1):
        _, body = _get(port, following)
        cursor = json.loads(body)["next_cursor"]
        if cursor is None:
            break
        following = f"{path}&cursor={cursor}"
    for _ in range(WARM_UP):
        _get(port, path), _get(port, following)
    times = [(_get(port, path)[0], _get(port, following)[0]) for _ in range(PAIRS)]
    first, last = (statistics.median(column) for column in zip(*times, strict=True))
    return {"slowest": slowest, "first": first, "last": last}


def _get(port: int, path: str) -> tuple[float, bytes]:
    start = time.perf_counter()
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    if response.status != 200:
        raise BenchmarkError(f"{path} returned {response.status}: {body[:300]!r}")
    return (time.perf_counter() - start) * 1000, body
